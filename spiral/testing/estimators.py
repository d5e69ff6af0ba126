"""The promises of an advantage estimator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from spiral.api.records import Trajectory
from spiral.api.training import AdvantageEstimator, Stateful
from spiral.testing.fakes import make_trajectory
from spiral.testing.state import restore, saved
from spiral.testing.violations import Broken, doing, findings, global_chance, is_finite, short

EstimatorFactory = Callable[[], AdvantageEstimator]
Batch = Sequence[Trajectory]

NUM_BATCHES = 3
TOLERANCE = 1e-9
"""How far an advantage may move with the order of the trajectories: rounding, and nothing else."""


def check_estimator(factory: EstimatorFactory, *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.api.training.AdvantageEstimator` that `factory()` breaks, a sentence each.

    Tried on made-up trajectories of two games, two players, groups of 4 per deal, 0 to 3 turns each, half of them with
    rewards for single turns, as shapers give. An estimator whose result depends on the order of its trajectories says
    so with an attribute `order_dependent = True`. Deterministic in `seed`.
    """
    batches = [_batch(random.Random(seed + number), number) for number in range(NUM_BATCHES)]
    return findings(
        [partial(_one_after_another, factory, batches)],
        [partial(_same_again, factory, batches)],
        [partial(_any_order, factory, batches, seed), partial(_restored, factory, batches)],
    )


def _batch(rng: random.Random, number: int) -> list[Trajectory]:
    """A step's trajectories, as rollouts give them: both players of four games on each of six deals."""
    played = [
        make_trajectory(reward, game=game, player=player, num_turns=rng.randrange(4), deal=10 * number + deal)
        for game in ("one_game", "other_game")
        for deal in range(3)
        for _ in range(4)
        for player, reward in enumerate(rng.choice([(1.0, -1.0), (-1.0, 1.0), (2.0, -2.0), (0.0, 0.0)]))
    ]
    return [_paid(rng, trajectory) for trajectory in played]


def _paid(rng: random.Random, trajectory: Trajectory) -> Trajectory:
    """The same with rewards for its turns, which are part of its own, or as it is."""
    if rng.random() < 0.5:
        return trajectory
    turns = tuple(replace(turn, reward=rng.choice((-0.5, 0.0, 0.25))) for turn in trajectory.turns)
    return replace(trajectory, reward=trajectory.reward + sum(turn.reward for turn in turns), turns=turns)


def _made(factory: EstimatorFactory) -> AdvantageEstimator:
    with doing("making the estimator"):
        return factory()


def _credit(estimator: AdvantageEstimator, batch: Batch) -> list[list[float]]:
    """The advantages. Raises Broken for a wrong shape, for numbers that are not finite, for a changed input."""
    given = list(batch)
    with doing(f"the estimator, called with {len(given)} trajectories,"):
        out: Any = estimator(given)
    if given != list(batch):
        raise Broken("the estimator changed the list of trajectories it was given; work on a copy")
    if not isinstance(out, list | tuple) or len(out) != len(batch):
        raise Broken(f"the estimator gave {short(out)} for {len(batch)} trajectories; give one list a trajectory")
    for i, (row, trajectory) in enumerate(zip(out, batch, strict=True)):
        if not isinstance(row, list | tuple) or len(row) != len(trajectory.turns):
            raise Broken(
                f"out[{i}] is {short(row)} for a trajectory of {len(trajectory.turns)} turns; give one number a turn, "
                "none for a trajectory without turns"
            )
        if not all(is_finite(number) for number in row):
            raise Broken(f"out[{i}] is {short(row)}, and must be finite floats")
    return [list(row) for row in out]


def _one_after_another(factory: EstimatorFactory, batches: Sequence[Batch]) -> None:
    estimator = _made(factory)
    for batch in batches:
        _credit(estimator, batch)


def _same_again(factory: EstimatorFactory, batches: Sequence[Batch]) -> None:
    """Two estimators with one past agree, whatever the global generators say."""
    one, two = _made(factory), _made(factory)
    with global_chance() as chance:
        for number, batch in enumerate(batches):
            chance(number)
            first = _credit(one, batch)
            chance(number + NUM_BATCHES)
            if _credit(two, batch) != first:
                raise Broken(
                    "two new estimators gave different advantages for the same batches; use no chance, and share "
                    "nothing between estimators"
                )


def _any_order(factory: EstimatorFactory, batches: Sequence[Batch], seed: int) -> None:
    """The order of the trajectories means nothing, neither now nor for what is remembered."""
    one, two = _made(factory), _made(factory)
    if getattr(one, "order_dependent", False):
        return
    rng = random.Random(seed)
    for batch in batches:
        order = rng.sample(range(len(batch)), len(batch))
        first, second = _credit(one, batch), _credit(two, [batch[i] for i in order])
        for place, i in enumerate(order):
            if any(abs(a - b) > TOLERANCE for a, b in zip(first[i], second[place], strict=True)):
                raise Broken(
                    f"the advantages depend on the order of the trajectories: {first[i]} became {second[place]} when "
                    "they were shuffled; treat the batch as a set, or declare order_dependent = True"
                )


def _restored(factory: EstimatorFactory, batches: Sequence[Batch]) -> None:
    """An estimator whose state is restored goes on as the one it was saved from."""
    one, two = _made(factory), _made(factory)
    stateful = isinstance(one, Stateful)
    for batch in batches[:-1]:
        _credit(one, batch)
    if isinstance(one, Stateful):
        restore(two, saved(one))
    if _credit(one, batches[-1]) != _credit(two, batches[-1]):
        raise Broken(
            "an estimator made anew, its state restored, gave other advantages; keep all that it remembers in `state`"
            if stateful
            else "the estimator remembers earlier batches and has no `state`; keep what it remembers in one, so that "
            "a resumed run goes on as if it had not been stopped"
        )
