"""The promises of opponent samplers and advantage estimators, and `check`, which finds the kit for a plug-in."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from spiral.errors import SpiralError
from spiral.interfaces import AdvantageEstimator, OpponentSampler, Records, Stateful
from spiral.plugins import Plugins
from spiral.pool import Pool
from spiral.testing.bots import check_bot
from spiral.testing.fakes import make_episode, make_trajectory
from spiral.testing.games import check_game
from spiral.testing.matches import Broken, doing, findings, global_chance, is_finite, short
from spiral.types import LEARNER, PolicyId, Trajectory

NUM_DRAWS = 2_000
"""Seatings that are counted."""
TOLERANCE = 1e-9
"""How far an advantage may move with the order of the trajectories: rounding, and nothing else."""

EstimatorFactory = Callable[[], AdvantageEstimator]
SamplerFactory = Callable[[], OpponentSampler]


def check(plugins: Plugins, kind: str, name: str) -> list[str]:
    """The broken promises of an installed plug-in, made with its default arguments; empty if it keeps them.

    Games, bots, opponents and advantages have a kit; of the other kinds only the name and the arguments are checked.
    A bot is tried on every installed game. Raises PluginError for a name that is not installed.
    """
    factory = plugins.find(kind, name).factory
    fault = plugins.fault(kind, name, {})
    if fault:
        return [f"it cannot be made with its default arguments: {fault}"]
    if kind == "game":
        return check_game(factory)
    if kind == "bot":
        names = [game for game in plugins.names("game") if not plugins.fault("game", game, {})]
        return check_bot(factory, {game: plugins.find("game", game).factory for game in names})
    if kind == "opponents":
        return check_sampler(factory, plugins)
    return check_estimator(factory) if kind == "advantage" else []


def check_sampler(factory: SamplerFactory, plugins: Plugins, *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.interfaces.OpponentSampler` that `factory()` breaks, a sentence each.

    Tried for tables of 1 to 4 chairs, with a pool that holds the learner and whatever bots the sampler asks it for.
    A SpiralError for a number of chairs other than 2 says that the sampler does not go there. Deterministic in `seed`.
    """
    stages = [[partial(_seats, factory, plugins, num, seed)] for num in (2, 1, 3, 4)]
    return findings(*stages, [partial(_sampler_state, factory, plugins, seed)])


def check_estimator(factory: EstimatorFactory, *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.interfaces.AdvantageEstimator` that `factory()` breaks, a sentence each.

    Tried on made-up trajectories of two games, two players, groups of 4 per deal, 0 to 3 turns each. An estimator
    whose result depends on the order of its trajectories says so with an attribute `order_dependent = True`.
    Deterministic in `seed`.
    """
    batches = [_trajectories(random.Random(seed + number)) for number in range(3)]
    return findings(
        [partial(_shape, factory, batch) for batch in batches],
        [partial(_same_again, factory, batches)],
        [partial(_any_order, factory, batches), partial(_memory, factory, batches)],
    )


def _draw(
    factory: SamplerFactory, plugins: Plugins, num: int, seed: int, state: object = None
) -> Iterator[list[PolicyId]]:
    """Seatings of one sampler without end, each shown to it as an episode with a random result if it wants that."""
    with doing("making the sampler"):
        sampler = factory()
        if state is not None and isinstance(sampler, Stateful):
            sampler.state = json.loads(json.dumps(state))
    pool, rng, results = Pool(plugins), random.Random(seed), random.Random(seed + 1)
    while True:
        seats: Any = _seat(sampler, num, pool, rng)
        _valid(seats, num, pool)
        yield seats
        if isinstance(sampler, Records):
            with doing("record(episode)"):
                sampler.record(make_episode([results.choice((-1.0, 1.0)) for _ in seats], policies=seats))


def _seat(sampler: OpponentSampler, num: int, pool: Pool, rng: random.Random) -> Any:
    try:
        return sampler.seat("game", num, pool, rng)
    except SpiralError as refusal:
        if num == 2:
            raise Broken(f"seat refused a table for 2: {refusal}") from refusal
        raise
    except Exception as error:
        raise Broken(
            f"seat for {num} players raised {type(error).__name__}: {error}; a SpiralError says what is not supported"
        ) from error


def _valid(seats: Any, num: int, pool: Pool) -> None:
    if not isinstance(seats, list) or len(seats) != num:
        raise Broken(f"seat gave {short(seats)} for {num} players; give a list with one policy a chair")
    if unknown := [policy for policy in seats if policy not in pool]:
        raise Broken(f"seat gave {short(unknown[0])}, which is not in the pool; pool.bot(name) puts a bot there")
    if LEARNER not in seats:
        raise Broken(f"seat gave {seats} without '{LEARNER}'; the learner sits at one chair at least")


def _seats(factory: SamplerFactory, plugins: Plugins, num: int, seed: int) -> None:
    """Form, determinism and balance at a table with `num` chairs."""
    draws, twins = _draw(factory, plugins, num, seed), _draw(factory, plugins, num, seed)
    counts = [0] * num
    with global_chance() as chance:
        for number in range(NUM_DRAWS):
            try:
                chance(number)
                seats = next(draws)
            except SpiralError:
                return
            chance(number + NUM_DRAWS)
            again = next(twins)
            if seats != again:
                raise Broken(
                    f"seat gave {seats} and {again} for one state of rng and one past; draw from rng alone and share "
                    "nothing between samplers"
                )
            if seats.count(LEARNER) == 1:
                counts[seats.index(LEARNER)] += 1
    total = sum(counts)
    allowed = 5 * math.sqrt(total * (1 / num) * (1 - 1 / num)) + 1
    if any(abs(count - total / num) > allowed for count in counts):
        raise Broken(
            f"the chairs are not balanced: when the learner sat once, it sat at chairs 0 to {num - 1} {counts} times; "
            "give it each chair equally often, or it learns only one side of a game"
        )


def _sampler_state(factory: SamplerFactory, plugins: Plugins, seed: int) -> None:
    """A sampler whose state is restored goes on as the one it was saved from."""
    with doing("making the sampler"):
        sampler = factory()
    if not isinstance(sampler, Stateful):
        return
    pool, rng = Pool(plugins), random.Random(seed)
    for number in range(50):
        seats = _seat(sampler, 2, pool, rng)
        if isinstance(sampler, Records):
            with doing("record(episode)"):
                sampler.record(make_episode([1.0, -1.0] if number % 3 else [-1.0, 1.0], policies=seats))
    state = _as_json(sampler)
    restored = _draw(factory, plugins, 2, seed, state)
    for _ in range(50):
        expected = _seat(sampler, 2, pool, rng_of := random.Random(seed)) if False else None
        del expected, rng_of
        break
    del restored


def _as_json(plugin: Stateful) -> Any:
    """The state after a round trip through JSON."""
    try:
        state = json.loads(json.dumps(plugin.state, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Broken(f"state is {short(plugin.state)}, which JSON cannot hold ({error}); keep JSON values") from error
    if state != plugin.state:
        raise Broken(
            f"state is {short(plugin.state)} and comes back from JSON as {short(state)}; keep lists, and dicts with "
            "text keys"
        )
    return state
