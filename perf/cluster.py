"""A run on Ray over one in one process: games a second of synchronous and of asynchronous steps, the head's work a
game, and loads of weights. Needs the extra `ray`; the rows of SmolLM2 the folder that `SPIRAL_TEST_MODEL` names."""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from perf.measure import Figure, timed
from spiral.api.progress import no_progress
from spiral.api.records import LEARNER, Request, Sampling
from spiral.cluster.fleet import Fleet
from spiral.cluster.settings import RaySettings, ray_extra, shares_cores
from spiral.cluster.versions import Origin
from spiral.config.schema import Config
from spiral.learning.row_cost import RowCost
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.training.components import Components, make_components
from spiral.training.launch import checked_config
from spiral.training.step import learn

REPEATS = 7
SMALL = ("evaluate.every=0", "loggers=[]", "evaluate.opponents=[]")
BYTES = (
    ("Kuhn, byte-0.1m", ("games=kuhn_poker", "rollout.episodes=512"), 8),
    ("tic-tac-toe, byte-1m", ("games=tic_tac_toe", "model=byte-1m", "rollout.episodes=256"), 2),
)
SEARCH = (
    "games=openspiel/connect_four",
    "model=byte-1m",
    "rollout.episodes=64",
    "rollout.max_new_tokens=8",
    "warm_start.max_steps=200",
    "opponents={name: fixed, args: {opponent: openspiel_mcts, args: {simulations: 2000}}}",
)
"""Games whose moves take an engine's process longer than the replies."""
Spread = tuple[int, int, int, float | None]
"""Engines, workers, staleness, and the ratio that must be met."""
SPREADS: tuple[Spread, ...] = ((1, 0, 0, 0.85), (1, 1, 0, None), (1, 0, 1, None), (2, 0, 1, None))
SMOL = (
    "games=kuhn_poker",
    "rollout.episodes=32",
    "rollout.max_new_tokens=8",
    "prompt={name: chat, args: {answer: plain}}",
)


def figures() -> Iterator[Figure]:
    """Each case in pairs: some steps here, as many on Ray."""
    for name, words, steps in _cases():
        yield from _steps(name, words, steps)
    yield from _steps("connect four against tree search, byte-1m", SEARCH, 1, ((1, 0, 0, None), (1, 2, 0, None)))
    if folder := os.environ.get("SPIRAL_TEST_MODEL"):
        for method in ("full", "lora"):
            yield from _loads(folder, method)


def _cases() -> Iterator[tuple[str, tuple[str, ...], int]]:
    warm = ("warm_start.max_steps=200", "warm_start.legal=0.9", "rollout.max_new_tokens=8")
    for name, words, steps in BYTES:
        yield name, (*words, *warm), steps
    if folder := os.environ.get("SPIRAL_TEST_MODEL"):
        yield "Kuhn, SmolLM2", (f"model={folder}", *SMOL), 1


def _steps(name: str, words: tuple[str, ...], steps: int, spread_over: Sequence[Spread] = SPREADS) -> Iterator[Figure]:
    config = checked_config(None, [*words, *SMALL, "steps=100000"], Plugins.installed())
    here = stepper(make_components(config, Plugins.installed(), no_progress, fresh=True), steps)
    for engines, workers, staleness, target in spread_over:
        with fleet_of(config, engines, workers) as fleet:
            there = stepper(on_fleet(fleet, config, staleness), steps)
            heads: list[float] = []
            ratios = []
            for step in range(REPEATS + 1):
                alone, (spread, head) = here()[0], there()
                if step:  # the first warms up
                    ratios.append(alone / spread)
                    heads.append(head)
        what = "synchronous" if not staleness else f"asynchronous by {staleness}"
        yield Figure(
            f"{engines} engine{f' and {workers} workers' if workers else ''}, a learner on Ray, {what}, {name}",
            statistics.median(ratios),
            "x games/s of one process",
            target=target,
            detail={"ratios": sorted(ratios), "steps": steps, "head_ms_per_game": statistics.median(heads)},
        )
        if target is not None:
            yield Figure(
                f"head's processor time, {name}", statistics.median(heads), "ms a game", target=1.0, at_least=False
            )


def on_fleet(fleet: Fleet, config: Config, staleness: int) -> Components:
    """The parts of a run whose games a fleet plays."""
    from spiral.training.ray_learner import OnFleet

    elsewhere = OnFleet(fleet, RaySettings(staleness=staleness))
    return make_components(config, Plugins.installed(), no_progress, fresh=True, elsewhere=elsewhere)


def stepper(c: Components, num: int) -> Callable[[], tuple[float, float]]:
    """Steps of play and learning; the seconds that some took, and the head's milliseconds a game."""
    for one in c.trained:
        one.publish(c.engine, 0)
    steps, cost = count(), RowCost.of(c.play.model)

    def go_on() -> tuple[float, float]:
        start, head = time.perf_counter(), 0.0
        for _ in range(num):
            step = next(steps)
            episodes = c.experience.episodes(step)
            credits = [one.credit(c.experience, episodes) for one in c.trained]
            learn(c, credits, step, cost)
            head += c.experience.metrics(step, LEARNER, credits[0]).get("cluster/head_ms", 0.0)
        return time.perf_counter() - start, head / num

    return go_on


@contextmanager
def fleet_of(config: Config, engines: int, workers: int = 0) -> Iterator[Fleet]:
    """So many engines and workers on a local cluster, all of them ready."""
    with ray_extra():
        import ray

        from spiral.cluster.ray_crew import RayCrew, RayPlayers
    plugins, namespace = Plugins.installed(), f"perf-{uuid.uuid4().hex[:8]}"
    settings, folder = RaySettings(engines=engines, workers=workers), Path(tempfile.mkdtemp(prefix="spiral-perf-"))
    passive = {"OMP_WAIT_POLICY": "PASSIVE"} if shares_cores(config, settings, os.cpu_count() or 1) else {}
    ray.init(
        num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        runtime_env={"env_vars": passive},
    )  # fmt: skip
    players = RayPlayers(config, settings, Origin.here(plugins), namespace, folder)
    players.start(engines)
    fleet = Fleet(RayCrew(namespace), f"perf:{namespace}", 1024, 600.0)
    fleet.wait(lambda: len(fleet.facts()) == engines + workers, 300.0)
    try:
        yield fleet
    finally:
        fleet.close()
        ray.shutdown()


def _loads(folder: str, method: str) -> Iterator[Figure]:
    """One version of the weights to two engines, and to one in this process."""
    words = [f"model={folder}", *SMOL, *SMALL, f"learner.method={method}", "rollout.max_concurrent=64"]
    config = checked_config(None, words, Plugins.installed())
    here = make_components(config, Plugins.installed(), no_progress, fresh=True)
    weights = here.learner.weights()
    alone = min(timed(partial(here.engine.load_weights, LEARNER, weights, version)).wall for version in range(3))
    with fleet_of(config, 2) as fleet:
        times = []
        for version in range(4):
            start = time.perf_counter()
            fleet.load(LEARNER, weights, version)
            handed = time.perf_counter() - start
            _answered_by_both(fleet, version)
            times.append((time.perf_counter() - start, handed))
    spread = min(times[1:])
    told = {"seconds": spread[0], "until the learner goes on": spread[1], "in process": alone}
    size = sum(
        weight.nbytes for weight in (weights if method == "lora" else dict(parameters(here.play.model))).values()
    )
    yield Figure(
        f"load of weights into two engines on Ray, SmolLM2, {method}",
        spread[0] / alone,
        "x of a load in process",
        detail={**told, "megabytes": size / 1e6},
    )


def _answered_by_both(fleet: Fleet, version: int) -> None:
    """Until both engines gave a token with these weights."""
    for number in range(2):
        fleet.ask(Request(2 * version + number, LEARNER, (5, 6, 7), Sampling(1, ()), number))
    found: list[int] = []

    def heard() -> bool:
        found.extend(completion.version for completion in fleet.results.take_completions())
        return len(found) == 2

    fleet.wait(heard, 600.0)
    assert found == [version] * 2
