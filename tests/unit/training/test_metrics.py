"""The metrics of a step: pure functions of what was played."""

from dataclasses import replace

import pytest

from spiral.testing import make_episode, make_trajectory
from spiral.training.metrics import summarise


def summary(rewards, game="tasks/sums", deals=(0, 0, 1, 1)):
    episodes = [
        make_episode((r,), game=game, policies=["learner"], deal=d) for r, d in zip(rewards, deals, strict=True)
    ]
    trajectories = [make_trajectory(r, game=game, deal=d) for r, d in zip(rewards, deals, strict=True)]
    return summarise(episodes, trajectories, [[0.0] for _ in rewards])


@pytest.mark.parametrize(
    ("rewards", "share"), [((1, 1, 0, 0), 1.0), ((1, 0, 0, 0), 0.5), ((1, 0, 0, 1), 0.0), ((0.25, 0.5, 0.5, 0.5), 0.5)]
)
def test_groups_in_which_all_replies_are_worth_the_same_are_told(rewards, share):
    """They teach nothing to an estimator that compares the games of one deal: questions too hard or too easy."""
    assert summary(rewards)["play/tasks/sums/equal_groups"] == share


def test_games_without_groups_have_no_such_metric():
    assert "play/tasks/sums/equal_groups" not in summary((1, 1, 0, 0), deals=(0, 1, 2, 3))


def test_players_of_one_deal_are_groups_of_their_own():
    """In self-play both players' returns differ, and each is compared with its like."""
    trajectories = [
        replace(make_trajectory(r, game="duel", player=p, deal=0), player=p)
        for p, r in ((0, 1), (1, -1), (0, 1), (1, -1))
    ]
    assert summarise([make_episode(game="duel")], trajectories, [[0.0]] * 4)["play/duel/equal_groups"] == 1.0
