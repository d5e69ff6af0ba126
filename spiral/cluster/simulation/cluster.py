"""A run on a cluster with a virtual clock: the dispatcher and the bound on staleness of a real one, engines and a
learner by their rates."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from spiral.cluster.dispatcher import Dispatcher, admitted
from spiral.cluster.orders import Ticket
from spiral.cluster.simulation.engines import EngineRates, SimulatedEngine
from spiral.selfplay.draws import Draw

DrawGame = Callable[[random.Random], tuple[int, int]]
"""Tokens of a game: of the prompts that are computed anew, and of the replies."""


@dataclass(frozen=True)
class LearnerRates:
    """Seconds."""

    step_s: float
    """Of an update, however few tokens it has."""
    token_s: float = 0.0
    """More for each token of a reply."""
    transfer_s: float = 0.0
    """Until a version of the weights is where engines can load it; the learner goes on meanwhile in asynchronous
    steps."""


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    engines: int
    staleness: int
    games: int
    """Of a step."""
    steps: int
    window: int
    """Games that an engine has at once, at most."""
    engine: EngineRates
    learner: LearnerRates
    report_s: float = 0.0
    """Until a game that ended is known, and another given out in its place."""
    warmup: int = 2
    """Steps that are not counted, in which the run fills up."""


@dataclass(frozen=True)
class Outcome:
    """What came of it, without the warm-up."""

    setting: Setting
    seconds: float
    games_per_s: float
    tokens_per_s: float
    """Of replies."""
    staleness: float
    """Mean age of the games that were trained on, in versions, from when they began."""
    engines_busy: float
    """Share of their time."""
    learner_busy: float
    tail_s: float
    """Mean time of a step from when nine tenths of its games were over, and the learner waited, to the last."""


class _Run:
    """The state of a simulation. Events are (time, number, kind, engine or -1, change)."""

    def __init__(self, setting: Setting, draw: DrawGame, seed: int) -> None:
        self.s, self.draw, self.rng = setting, draw, random.Random(seed)
        self.engines = [SimulatedEngine(setting.engine) for _ in range(setting.engines)]
        self.names = [f"engine-{n}" for n in range(setting.engines)]
        self.dispatcher = Dispatcher(setting.window)
        for name in self.names:
            self.dispatcher.join(name)
        self.events: list[tuple[float, int, str, int, int]] = []
        self.numbers = itertools.count()
        self.sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self.left = {step: setting.games for step in range(setting.steps)}
        self.ends: dict[int, list[float]] = {step: [] for step in range(setting.steps)}
        self.tokens: dict[int, int] = dict.fromkeys(range(setting.steps), 0)
        self.ages: dict[int, int] = dict.fromkeys(range(setting.steps), 0)
        self.asked_up_to = self.step = 0
        self.is_updating = False
        self.learner_busy = self.waits_since = 0.0
        self.marks: list[tuple[float, float, float]] = []
        """At the start of each step: the time, the engines' and the learner's busy seconds so far."""
        self.tails: list[float] = []

    def go(self) -> None:
        self._ask(0.0)
        self.marks.append((0.0, 0.0, 0.0))
        while self.step < self.s.steps:
            now, _, kind, index, change = heapq.heappop(self.events)
            if kind == "end" and self.engines[index].turns_on == change:
                self._game_over(now, index)
            elif kind == "refill":
                self._refill(now, index)
            elif kind == "updated":
                self._updated(now)
            elif kind == "load":
                self._load(now, change)

    def _at(self, now: float, kind: str, index: int = -1, change: int = 0) -> None:
        heapq.heappush(self.events, (now, next(self.numbers), kind, index, change))

    def _ask(self, now: float) -> None:
        """Ask for the games that may begin."""
        for step in range(self.asked_up_to, admitted(self.step, self.s.staleness, self.s.steps) + 1):
            self.dispatcher.add(Ticket(step, Draw(n, 0, "", (), 0, 0)) for n in range(self.s.games))
            self.asked_up_to = step + 1
        for index in range(len(self.engines)):
            self._refill(now, index)

    def _refill(self, now: float, index: int) -> None:
        engine, taken = self.engines[index], self.dispatcher.take(self.names[index])
        if not taken:
            return
        engine.go_to(now)
        for ticket in taken:
            prompt, reply = self.sizes[ticket.key] = self.draw(self.rng)
            engine.begin(ticket, prompt, reply)
        self._foresee(index)

    def _foresee(self, index: int) -> None:
        engine = self.engines[index]
        if (end := engine.next_end()) is not None:
            self._at(end, "end", index, engine.turns_on)

    def _game_over(self, now: float, index: int) -> None:
        engine = self.engines[index]
        engine.go_to(now)
        ticket, version = engine.end()
        self.dispatcher.end(self.names[index], ticket)
        step = ticket.step
        self.left[step] -= 1
        self.ends[step].append(now)
        self.tokens[step] += self.sizes.pop(ticket.key)[1]
        self.ages[step] += step - version
        self._foresee(index)
        self._at(now + self.s.report_s, "refill", index)
        if step == self.step and not self.left[step]:
            self._update(now + self.s.report_s)

    def _update(self, now: float) -> None:
        if self.is_updating or self.left[self.step]:
            return
        self.is_updating = True
        ends = sorted(self.ends[self.step])
        self.tails.append(max(0.0, now - max(ends[int(0.9 * (len(ends) - 1))], self.waits_since)))
        takes = self.s.learner.step_s + self.s.learner.token_s * self.tokens[self.step]
        self.learner_busy += takes
        self._at(now + takes, "updated")

    def _updated(self, now: float) -> None:
        self.is_updating = False
        self.step += 1
        self.waits_since = now
        self.marks.append((now, sum(engine.busy_s for engine in self.engines), self.learner_busy))
        if self.step == self.s.steps:
            return
        self._at(now + self.s.learner.transfer_s, "load", change=self.step)
        if not self.left[self.step]:
            self._update(now)

    def _load(self, now: float, version: int) -> None:
        for index, engine in enumerate(self.engines):
            engine.go_to(now)
            engine.load(version)
            self._foresee(index)
        self._ask(now)  # new games begin with the new weights


def simulate(setting: Setting, draw: DrawGame, seed: int = 0) -> Outcome:
    """Run the steps of a setting; the same seed gives the same figures. Raises ValueError for fewer steps than the
    warm-up leaves out."""
    if setting.steps <= setting.warmup:
        raise ValueError(f"{setting.steps} steps are no more than the {setting.warmup} of the warm-up")
    run = _Run(setting, draw, seed)
    run.go()
    (start, engines_before, learner_before), (end, engines_after, learner_after) = (
        run.marks[setting.warmup],
        run.marks[-1],
    )
    counted = range(setting.warmup, setting.steps)
    seconds, num = end - start, len(counted) * setting.games
    return Outcome(
        setting, seconds, num / seconds, sum(run.tokens[step] for step in counted) / seconds,
        sum(run.ages[step] for step in counted) / num, (engines_after - engines_before) / (seconds * setting.engines),
        (learner_after - learner_before) / seconds, sum(run.tails[setting.warmup :]) / len(counted),
    )  # fmt: skip


def what_to_add(outcome: Outcome, draw: DrawGame, seed: int = 0) -> dict[str, float]:
    """By how much the games a second would grow with a tenth more engines, one at least; with a learner that is a tenth
    faster; and with one version more of staleness."""
    s = outcome.setting
    faster = replace(s.learner, step_s=s.learner.step_s / 1.1, token_s=s.learner.token_s / 1.1)
    changes = {
        "engines": replace(s, engines=s.engines + max(1, s.engines // 10)),
        "learner": replace(s, learner=faster),
        "staleness": replace(s, staleness=s.staleness + 1),
    }
    return {
        name: simulate(changed, draw, seed).games_per_s / outcome.games_per_s - 1 for name, changed in changes.items()
    }
