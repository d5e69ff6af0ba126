"""The simulator's prediction against what is measured, in one run: games a second on Ray with one engine and with two,
synchronous and asynchronous, from rates that were measured in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np

from perf.cluster import SMALL, fleet_of, on_fleet, stepper
from perf.measure import Figure, timed
from spiral.api.progress import no_progress
from spiral.api.records import LEARNER, Episode
from spiral.cluster.simulation.cluster import LearnerRates, Setting, simulate
from spiral.cluster.simulation.engines import EngineRates
from spiral.config.schema import Config
from spiral.learning.row_cost import RowCost
from spiral.plugins.registry import Plugins
from spiral.training.components import Components, make_components
from spiral.training.launch import checked_config
from spiral.training.step import learn

WORDS = (
    "games=tic_tac_toe", "model=byte-1m", "rollout.episodes=256", "warm_start.max_steps=200", "warm_start.legal=0.9",
    "rollout.max_new_tokens=8",
)  # fmt: skip
SIZES = (16, 32, 64, 128, 256)
STEPS, REPEATS = 6, 3


def figures() -> Iterator[Figure]:
    """Predicted over measured games a second."""
    config = checked_config(None, [*WORDS, *SMALL, "steps=100000"], Plugins.installed())
    engine, lengths, alone = _rates(config)
    # While engines play on the other core, an update takes longer.
    beside = LearnerRates(_update_beside_an_engine(config))
    for engines, staleness in ((1, 0), (2, 0), (1, 1), (2, 1)):
        learner = beside if staleness else alone
        with fleet_of(config, engines) as fleet:
            components = on_fleet(fleet, config, staleness)
            step = stepper(components, STEPS)
            step()
            times = [step()[0] for _ in range(REPEATS)]
        measured = STEPS * config.rollout.episodes / statistics.mean(times)
        setting = Setting(engines, staleness, config.rollout.episodes, 40, 1024, engine, learner, 0.01)
        predicted = simulate(setting, lambda rng: (0, rng.choice(lengths))).games_per_s
        yield Figure(
            f"predicted games/s, {engines} engines, bound {staleness}",
            predicted / measured,
            "x measured",
            # Within a tenth.
            target=1.1,
            at_least=False,
            detail={
                "measured": measured, "predicted": predicted, "pass_s": engine.pass_s, "text_s": engine.text_s,
                "step_s": learner.step_s, "times": times,
            },
        )  # fmt: skip


def _rates(config: Config) -> tuple[EngineRates, list[int], LearnerRates]:
    """Measured in this process: the learner's mean and the games' lengths over the steps that are measured on Ray too,
    since a policy in training plays longer games; then an engine's passes from batches of several sizes, by least
    squares."""
    c = make_components(config, Plugins.installed(), no_progress, fresh=True)
    updates, lengths = _trained(c)
    rows, seconds = [], []
    for repeat in range(4):
        for num in SIZES:
            start = time.perf_counter()
            tokens = [_tokens(episode) for episode in c.rollouts.play(num, (1, repeat, num))]
            took = time.perf_counter() - start
            if repeat:
                rows.append((float(max(tokens)), float(sum(tokens))))
                seconds.append(took)
    weighed = np.array(rows) / np.array(seconds)[:, None]
    (pass_s, text_s), *_ = np.linalg.lstsq(weighed, np.ones(len(rows)), rcond=None)
    load_s = min(timed(lambda: c.engine.load_weights(LEARNER, c.learner.weights(), 1)).wall for _ in range(3))
    engine = EngineRates(max(0.0, float(pass_s)), max(1e-9, float(text_s)), load_s=load_s)
    return engine, lengths, LearnerRates(statistics.mean(updates))


def _update_beside_an_engine(config: Config) -> float:
    with fleet_of(config, 1) as fleet:
        return statistics.mean(_trained(on_fleet(fleet, config, 1))[0])


def _trained(c: Components) -> tuple[list[float], list[int]]:
    """The seconds of each update, and the tokens of each game, of the steps that are measured."""
    for one in c.trained:
        one.publish(c.engine, 0)
    cost, updates, lengths = RowCost.of(c.play.model), list[float](), list[int]()
    for step in range(STEPS * (REPEATS + 1)):
        episodes = c.experience.episodes(step)
        start = time.perf_counter()
        learn(c, [one.credit(c.experience, episodes) for one in c.trained], step, cost)
        if step >= STEPS:
            updates.append(time.perf_counter() - start)
            lengths += map(_tokens, episodes)
    return updates, lengths


def _tokens(episode: Episode) -> int:
    return sum(turn.num_sampled for trajectory in episode.trajectories for turn in trajectory.turns)
