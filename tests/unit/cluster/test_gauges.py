"""Figures of a step on a cluster, by hand."""

from dataclasses import replace

import pytest

from spiral.cluster.gauges import Gauges
from spiral.testing import make_episode, make_turn


def _episode(*versions, older=()):
    """A game against a bot, with a turn of the learner for each version, of three ids."""
    turns = tuple(replace(make_turn(num_tokens=3, version=version), older=older) for version in versions)
    episode = make_episode(policies=["learner", "bot:random"])
    learner, bot = episode.trajectories
    trajectories = (replace(learner, turns=turns), replace(bot, turns=()))
    return replace(episode, trajectories=trajectories, players=(0,) * len(turns))


def test_ages_are_counted_from_the_oldest_token():
    """Known failures (prime-rl#1764, #491): a game that began with version 3 and is trained on in step 6 is 3 old,
    whatever was loaded in between; one of the present version is 0 old; none is negative."""
    spanning = _episode(6, older=((1, 3), (1, 5)))
    found = Gauges().metrics(6, [spanning, _episode(6), _episode(5, 4)], [1.0, 2.0, 3.0], 0.0)
    assert found["cluster/staleness"] == pytest.approx((3 + 0 + 1 + 2) / 4)
    assert found["cluster/staleness_max"] == 3


def test_the_tail_is_what_the_learner_waited_after_nine_tenths():
    """Eleven groups over at 0..9 s and 30 s: from 9 s where the learner had waited since 2 s, from 20 s if since then."""
    ended = [*range(10), 30]
    assert Gauges().metrics(0, [_episode(0)], ended, 2.0)["cluster/tail_s"] == 21
    assert Gauges().metrics(0, [_episode(0)], ended, 20.0)["cluster/tail_s"] == 10
    assert Gauges().metrics(0, [_episode(0)], ended, 40.0)["cluster/tail_s"] == 0


def test_a_selection_of_games_shows():
    """Of a short and a long game the short one was trained on: the means of turns differ, 1 against 2."""
    gauges = Gauges()
    short, long = _episode(0), _episode(0, 0, 0)
    gauges.played.add([short, long])
    found = gauges.metrics(0, [short], [1.0], 0.0)
    assert (found["cluster/played_turns"], found["cluster/trained_turns"]) == (2.0, 1.0)
    assert (found["cluster/played_tokens"], found["cluster/trained_tokens"]) == (6.0, 3.0)
