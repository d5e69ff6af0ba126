"""Checks an advantage estimator against the contract of `spiral.api.training.AdvantageEstimator`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from spiral.api.records import Trajectory
from spiral.api.training import AdvantageEstimator, ReadsFeatures, Stateful, is_order_dependent
from spiral.testing.fakes import make_trajectory
from spiral.testing.state import restore_state, saved_state
from spiral.testing.violations import Violation, doing, global_generators, is_finite, run_checks, short

EstimatorFactory = Callable[[], AdvantageEstimator]
Batch = Sequence[Trajectory]

NUM_BATCHES = 3
NUM_FEATURES = 8
TOLERANCE = 1e-9
"""How much an advantage may change with the order of the trajectories, which is rounding."""


def check_estimator(factory: EstimatorFactory, *, seed: int = 0) -> list[str]:
    """The violations of `spiral.api.training.AdvantageEstimator` by `factory()`, a sentence each; [] if there are none.

    - It returns one list a trajectory with one finite number a turn, and leaves the list it is given as it was.
    - It uses no chance, and instances share nothing: two new estimators agree on the same batches.
    - The order of the trajectories changes nothing, unless it declares `order_dependent = True`.
    - What it remembers is its `state`: JSON, and enough to go on exactly after a resume.
    - One that reads `features` asks for each prompt once.

    Tried on batches of made-up trajectories: two games, two players, groups of 4 per deal, 0 to 3 turns each, half of
    them with rewards for turns, as shapers give. Deterministic in `seed`.

    Example: `assert check_estimator(Discounted) == []`
    """
    batches = [_batch(random.Random(seed + number), number) for number in range(NUM_BATCHES)]
    return run_checks(
        [partial(_check_outputs, factory, batches)],
        [partial(_check_deterministic, factory, batches)],
        [partial(_check_order, factory, batches, seed), partial(_check_restored, factory, batches)],
    )


def _batch(rng: random.Random, number: int) -> list[Trajectory]:
    """A step's trajectories, as rollouts give them: both players of four games on each of six deals."""
    trajectories = [
        make_trajectory(reward, game=game, player=player, num_turns=rng.randrange(4), deal=10 * number + deal)
        for game in ("one_game", "other_game")
        for deal in range(3)
        for _ in range(4)
        for player, reward in enumerate(rng.choice([(1.0, -1.0), (-1.0, 1.0), (2.0, -2.0), (0.0, 0.0)]))
    ]
    return [_shaped(rng, trajectory) for trajectory in trajectories]


def _shaped(rng: random.Random, trajectory: Trajectory) -> Trajectory:
    """Half of the trajectories with rewards for turns, which their total includes; all with joint states, and prompts
    of both players, of which some are met by several games."""
    player, deal = trajectory.player, trajectory.deal
    turns = tuple(
        replace(
            turn,
            joint_state=f"{deal}/{number}",
            prompt=(player, deal, number),
            other_prompts=((1 - player, deal, number),),
        )
        for number, turn in enumerate(trajectory.turns)
    )
    trajectory = replace(trajectory, turns=turns)
    if rng.random() < 0.5:
        return trajectory
    turns = tuple(replace(turn, reward=rng.choice((-0.5, 0.0, 0.25))) for turn in turns)
    return replace(trajectory, reward=trajectory.reward + sum(turn.reward for turn in turns), turns=turns)


def fake_features(prompts: Sequence[tuple[int, ...]]) -> Any:
    """As `spiral.api.training.Features`: `NUM_FEATURES` numbers a prompt, drawn by its ids. Raises Violation for a
    prompt that is asked for twice or has no id."""
    import torch

    if len(set(prompts)) != len(prompts) or not all(prompts):
        raise Violation("the estimator asked for the features of a prompt twice, or of none; ask once for each")
    rows = [[rng.gauss(0, 1) for _ in range(NUM_FEATURES)] for rng in map(random.Random, map(str, prompts))]
    return torch.tensor(rows, dtype=torch.float32)


def _new(factory: EstimatorFactory) -> AdvantageEstimator:
    with doing("making the estimator"):
        estimator = factory()
    if isinstance(estimator, ReadsFeatures):
        estimator.features = fake_features
    return estimator


def _advantages(estimator: AdvantageEstimator, batch: Batch) -> list[list[float]]:
    """`out[i][k]`: the advantage of turn k of trajectory i. Raises Violation for a wrong shape, a number that is not
    finite or a changed input."""
    given = list(batch)
    with doing(f"the estimator, called with {len(given)} trajectories,"):
        out: Any = estimator(given)
    if given != list(batch):
        raise Violation("the estimator changed the list of trajectories it was given; work on a copy")
    if not isinstance(out, list | tuple) or len(out) != len(batch):
        raise Violation(
            f"the estimator returned {short(out)} for {len(batch)} trajectories; return one list a trajectory"
        )
    for i, (row, trajectory) in enumerate(zip(out, batch, strict=True)):
        if not isinstance(row, list | tuple) or len(row) != len(trajectory.turns):
            raise Violation(
                f"out[{i}] is {short(row)} for a trajectory of {len(trajectory.turns)} turns; return one number a "
                "turn, [] for a trajectory without turns"
            )
        if not all(is_finite(number) for number in row):
            raise Violation(f"out[{i}] is {short(row)}; return finite floats")
    return [list(row) for row in out]


def _check_outputs(factory: EstimatorFactory, batches: Sequence[Batch]) -> None:
    """One estimator takes all batches, one after another."""
    estimator = _new(factory)
    for batch in batches:
        _advantages(estimator, batch)


def _check_deterministic(factory: EstimatorFactory, batches: Sequence[Batch]) -> None:
    """Two estimators with one past agree, although the global generators are seeded differently for each."""
    one, two = _new(factory), _new(factory)
    with global_generators() as seed_globals:
        for number, batch in enumerate(batches):
            seed_globals(number)
            advantages = _advantages(one, batch)
            seed_globals(number + NUM_BATCHES)
            if _advantages(two, batch) != advantages:
                raise Violation(
                    "two new estimators returned different advantages for the same batches; use no chance, and share "
                    "nothing between estimators"
                )


def _check_order(factory: EstimatorFactory, batches: Sequence[Batch], seed: int) -> None:
    """Shuffled batches give the same advantages, for each batch and for those after it.

    A second estimator gets all batches shuffled, instead of one getting each batch twice: then what is remembered of
    the order shows in the next batch, and no batch is counted twice.
    """
    one, two = _new(factory), _new(factory)
    if is_order_dependent(one):
        return
    rng = random.Random(seed)
    for batch in batches:
        order = rng.sample(range(len(batch)), len(batch))
        in_order, shuffled = _advantages(one, batch), _advantages(two, [batch[i] for i in order])
        for place, i in enumerate(order):
            if any(abs(a - b) > TOLERANCE for a, b in zip(in_order[i], shuffled[place], strict=True)):
                raise Violation(
                    f"the advantages depend on the order of the trajectories: {in_order[i]} became {shuffled[place]} "
                    "when they were shuffled; treat the batch as a set, or declare order_dependent = True"
                )


def _check_restored(factory: EstimatorFactory, batches: Sequence[Batch]) -> None:
    """A second estimator, given the state of the first, goes on as the first does.

    Into a second instance, as a resumed process does it: in the first one, everything that `state` omits would still
    be there. An estimator without `state` is compared with a new one, since a resumed run would use that.
    """
    one, two = _new(factory), _new(factory)
    stateful = isinstance(one, Stateful)
    for batch in batches[:-1]:
        _advantages(one, batch)
    if isinstance(one, Stateful):
        restore_state(two, saved_state(one))
    if _advantages(one, batches[-1]) != _advantages(two, batches[-1]):
        raise Violation(
            "a new estimator with the restored state returned other advantages; keep all that it remembers in `state`"
            if stateful
            else "the estimator remembers earlier batches and has no `state`; keep what it remembers in one, so that "
            "a resumed run goes on as if it had not been stopped"
        )
