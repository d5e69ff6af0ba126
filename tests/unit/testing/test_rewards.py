"""The checks of reward shapers: good ones pass, and each deliberately wrong one is reported."""

import random
from dataclasses import replace

import pytest

from spiral.api.records import LEARNER
from spiral.testing import check_reward


def assert_reported(violations, *words):
    """One of the violations has all the words."""
    assert any(all(word in text for word in words) for text in violations), violations or "no violation was reported"


def rewarded(episode, amounts):
    """`amounts[i]` added to the reward of player i."""
    pairs = zip(episode.trajectories, amounts, strict=True)
    return replace(episode, trajectories=tuple(replace(t, reward=t.reward + x) for t, x in pairs))


def per_turn(episode, amount, total=True):
    """`amount` for every turn, and their sum for the trajectory if `total`."""
    return replace(
        episode,
        trajectories=tuple(
            replace(
                t,
                reward=t.reward + (amount * len(t.turns) if total else 0.0),
                turns=tuple(replace(turn, reward=turn.reward + amount) for turn in t.turns),
            )
            for t in episode.trajectories
        ),
    )


def unchanged(episode):
    return episode


def winner_takes_more(episode):
    return rewarded(episode, [r for r in episode.returns])


def pays_turns(episode):
    return per_turn(episode, 0.25)


def moves_the_return_to_turns(episode):
    """The total is as it was; the return is paid in equal parts at the turns."""
    moved = []
    for t in episode.trajectories:
        game_reward = t.reward - sum(turn.reward for turn in t.turns)
        turns = tuple(replace(turn, reward=turn.reward + game_reward / len(t.turns)) for turn in t.turns)
        moved.append(replace(t, turns=turns))
    return replace(episode, trajectories=tuple(moved))


def centred_bonus(episode):
    """A bonus for turns, less the mean over the players, so that the sum stays."""
    mean = 0.25 * len(episode.players) / len(episode.returns)
    return rewarded(per_turn(episode, 0.25), [-mean] * len(episode.returns))


class RunningMean:
    """Takes the mean of the first player's returns so far from every player; keeps it in its state."""

    def __init__(self):
        self.state = {"sum": 0.0, "num": 0}

    def __call__(self, episode):
        total, num = self.state["sum"] + episode.returns[0], self.state["num"] + 1
        self.state = {"sum": total, "num": num}
        return rewarded(episode, [-total / num] * len(episode.returns))


class NoState(RunningMean):
    """Remembers, and saves nothing."""

    def __init__(self):
        self.seen = []

    def __call__(self, episode):
        self.seen.append(episode.returns[0])
        return rewarded(episode, [-sum(self.seen)] * len(episode.returns))


class SavesLess(NoState):
    def __init__(self):
        super().__init__()
        self.state = {}


class SavesNan(RunningMean):
    def __init__(self):
        self.state = {"mean": float("nan")}

    def __call__(self, episode):
        return episode


def crashes(episode):
    return rewarded(episode, [t.turns[-1].reward for t in episode.trajectories])


def gives_numbers(episode):
    return [t.reward for t in episode.trajectories]


def changes_returns(episode):
    return replace(episode, returns=tuple(2 * r for r in episode.returns))


def drops_bots(episode):
    return replace(episode, trajectories=tuple(t for t in episode.trajectories if t.policy == LEARNER))


def reverses(episode):
    return replace(episode, trajectories=episode.trajectories[::-1])


def drops_illegal_turns(episode):
    trajectories = [replace(t, turns=tuple(turn for turn in t.turns if turn.legal)) for t in episode.trajectories]
    return replace(episode, trajectories=tuple(trajectories))


def makes_moves_legal(episode):
    changed = [replace(t, turns=tuple(replace(turn, legal=True) for turn in t.turns)) for t in episode.trajectories]
    return replace(episode, trajectories=tuple(changed))


def not_finite(episode):
    return rewarded(episode, [float("inf")] * len(episode.returns))


def not_finite_turns(episode):
    return per_turn(episode, float("nan"), total=False)


def in_place(episode):
    for t in episode.trajectories:
        object.__setattr__(t, "reward", t.reward + 1)
    return episode


def noisy(episode):
    return rewarded(episode, [random.random() for _ in episode.returns])


def forgets_the_total(episode):
    return per_turn(episode, 0.25, total=False)


@pytest.mark.parametrize(
    "factory",
    [lambda: unchanged, lambda: winner_takes_more, lambda: pays_turns, lambda: centred_bonus, RunningMean],
)
def test_good_shapers_pass(factory):
    assert check_reward(factory) == []


def test_a_shaper_may_move_the_return_to_the_turns():
    """The total is as it was, as with a shaper that forgets it; the two differ where all returns are 0."""
    assert check_reward(lambda: moves_the_return_to_turns) == []


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda: crashes, ["the shaper, called with a game of", "raised IndexError"]),
        (lambda: gives_numbers, ["not an Episode"]),
        (lambda: changes_returns, ["the shaper changed Episode.returns", "Trajectory.reward and Turn.reward only"]),
        (lambda: drops_bots, ["the shaper returned 1 trajectories for", "one a player"]),
        (lambda: reverses, ["the shaper changed Trajectory.player from 0 to 1"]),
        (lambda: drops_illegal_turns, ["turns where", "keep them all"]),
        (lambda: makes_moves_legal, ["the shaper changed Turn.legal from False to True"]),
        (lambda: not_finite, ["set a Trajectory.reward to inf", "finite floats"]),
        (lambda: not_finite_turns, ["set a Turn.reward to nan"]),
        (lambda: in_place, ["changed the episode it was given", "dataclasses.replace"]),
        (lambda: noisy, ["use no chance"]),
        (lambda: forgets_the_total, ["left the rewards of their trajectories as they were", "add their sum"]),
        (NoState, ["has no `state`", "as if it had not been stopped"]),
        (SavesLess, ["with the restored state gave other rewards"]),
        (SavesNan, ["which JSON cannot hold"]),
    ],
)
def test_the_violation_of_a_shaper_is_reported(factory, words):
    assert_reported(check_reward(factory), *words)
