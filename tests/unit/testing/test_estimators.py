"""The checks of advantage estimators: good ones pass, and each deliberately wrong one is reported."""

import random

import pytest

from spiral.testing import check_estimator


def assert_reported(violations, *words):
    """One of the violations has all the words."""
    assert any(all(word in text for word in words) for text in violations), violations or "no violation was reported"


class Plain:
    def __call__(self, trajectories):
        return [[t.reward] * len(t.turns) for t in trajectories]


class OneNumber(Plain):
    def __call__(self, trajectories):
        return [t.reward for t in trajectories]


class Short(Plain):
    def __call__(self, trajectories):
        return super().__call__(trajectories)[1:]


class AtLeastOne(Plain):
    def __call__(self, trajectories):
        return [[t.reward] * max(1, len(t.turns)) for t in trajectories]


class NotFinite(Plain):
    def __call__(self, trajectories):
        return [[float("nan")] * len(t.turns) for t in trajectories]


class Divides(Plain):
    def __call__(self, trajectories):
        return [[t.reward / len(t.turns)] * len(t.turns) for t in trajectories]


class Sorts(Plain):
    def __call__(self, trajectories):
        trajectories.sort(key=lambda t: t.reward)
        return super().__call__(trajectories)


class Noisy(Plain):
    def __call__(self, trajectories):
        return [[a + random.gauss(0, 1) for a in row] for row in super().__call__(trajectories)]


class Running(Plain):
    """Each return against the one before it."""

    def __call__(self, trajectories):
        before = [0.0, *(t.reward for t in trajectories)]
        return [[t.reward - before[i]] * len(t.turns) for i, t in enumerate(trajectories)]


class RunningDeclared(Running):
    order_dependent = True


class Remembers(Plain):
    def __init__(self):
        self.best = 0.0

    def __call__(self, trajectories):
        before, self.best = self.best, self.best + sum(t.reward**2 for t in trajectories)
        return [[t.reward - before] * len(t.turns) for t in trajectories]


class SavesHalf(Remembers):
    def __init__(self):
        super().__init__()
        self.state = {}


class SavesAll(Remembers):
    @property
    def state(self):
        return {"best": self.best}

    @state.setter
    def state(self, state):
        self.best = state["best"]


class SavesNan(Plain):
    def __init__(self):
        self.state = {"mean": float("nan")}


class Reads(Plain):
    """Takes away the first feature of each turn's prompt."""

    features = None

    def prompts(self, trajectories):
        return list({turn.prompt for t in trajectories for turn in t.turns})

    def __call__(self, trajectories):
        prompts = self.prompts(trajectories)
        first = dict(zip(dict.fromkeys(prompts), self.features(prompts)[:, 0].tolist(), strict=True))
        return [[t.reward - first[turn.prompt] for turn in t.turns] for t in trajectories]


class ReadsTwice(Reads):
    def prompts(self, trajectories):
        return [turn.prompt for t in trajectories for turn in t.turns]


@pytest.mark.parametrize("estimator", [Plain, RunningDeclared, SavesAll, Reads])
def test_good_estimators_pass(estimator):
    assert check_estimator(estimator) == []


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (OneNumber, ["out[0] is", "one number a turn"]),
        (Short, ["return one list a trajectory"]),
        (AtLeastOne, ["for a trajectory of 0 turns", "[] for a trajectory without turns"]),
        (NotFinite, ["return finite floats"]),
        (Divides, ["raised ZeroDivisionError"]),
        (Sorts, ["changed the list of trajectories"]),
        (Noisy, ["two new estimators returned different advantages"]),
        (Running, ["depend on the order", "declare order_dependent = True"]),
        (Remembers, ["has no `state`", "as if it had not been stopped"]),
        (SavesHalf, ["with the restored state returned other advantages"]),
        (SavesNan, ["which JSON cannot hold"]),
        (ReadsTwice, ["features of a prompt twice", "ask once for each"]),
    ],
)
def test_the_violation_of_an_estimator_is_reported(estimator, words):
    assert_reported(check_estimator(estimator), *words)
