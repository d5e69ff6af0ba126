"""The collapse detector: from the metrics of each step to what collapsed, when, and when all was last well."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spiral.training.health.rules import RULES, Finding, Rule, Severity, View
from spiral.training.health.smoothing import Trace, observations

MAX_SPANS = 256
"""Stretches of healthy steps that are remembered, the newest."""
_RANK = {"": 0, "warning": 1, "collapse": 2}


@dataclass(frozen=True)
class Collapse:
    """What went wrong. JSON values: `dataclasses.asdict` is a line of events.jsonl but for what was done."""

    step: int
    """When it was certain."""
    kind: str
    """What, in a few words, such as `one player wins`; the keys of `RULES` name them all."""
    game: str
    """Where; empty for the whole run."""
    sentence: str
    """For a person, with the numbers."""
    severity: Severity
    """`warning`: worth a look, and perhaps how the game is. `collapse`: training on makes it no better."""
    since: int
    """When it began, as far as can be told."""


@dataclass
class Alarm:
    """What one rule has said of one game lately."""

    bad: int = 0
    clear: int = 0
    since: int = 0
    sound: int = -1
    """The last step at which the rule looked and nothing was wrong."""
    severity: str = ""
    """Of the present bad stretch."""
    named: str = ""
    """The severity that was reported; nothing is reported twice before it cleared."""


class Detector:
    """Names a collapse once it lasted, and again only after it had cleared. Deterministic.

    `window`: about how many steps something must be wrong; a quarter of them smooths, half of them must all be bad.
    `match_games`: matches of an evaluation as each player, for the intervals of its results.
    `perfect_information`: the games, as the metrics name them, in which nothing is hidden: there a fall in matches is a
    collapse, elsewhere it may be progress and is a warning.
    """

    def __init__(self, window: int = 20, match_games: int = 100, perfect_information: Collection[str] = ()) -> None:
        self._window, self._match_games = window, match_games
        self._perfect = frozenset(perfect_information)
        self._traces: dict[str, dict[str, Trace]] = {}
        self._alarms: dict[str, dict[str, Alarm]] = {}
        self._healthy: list[list[int]] = []

    def observe(self, step: int, metrics: Mapping[str, Any]) -> Collapse | None:
        """What became certain at this step; `metrics` are all that the step reported, by their names.

        Of several the gravest; the others are named when their rules next look, if they still hold. Metrics that are
        missing, None or not finite are as if the step had not measured them.
        """
        keep = 1 - 1 / max(1.0, self._window / 4)
        fresh: dict[str, set[str]] = {}
        for seen in observations(metrics, keep, self._match_games):
            trace = self._traces.setdefault(seen.game, {}).setdefault(seen.quantity, Trace(seen.keep))
            trace.add(step, seen.value, seen.games, self._window / 2)
            fresh.setdefault(seen.game, set()).add(seen.quantity)
        self._retract(step - 1)  # a step that is seen again counts anew
        certain = [found for game, names in sorted(fresh.items()) for found in self._judge(step, game, names)]
        if not any(a.bad and a.severity == "collapse" for alarms in self._alarms.values() for a in alarms.values()):
            self._keep_healthy(step)
        if not certain:
            return None
        gravest = max(certain, key=lambda found: _RANK[found[0].severity])
        gravest[1].named = gravest[0].severity
        return gravest[0]

    def last_healthy(self, step: int) -> int:
        """The newest step up to `step` at which nothing was wrong, as far as is known by now; -1 if there is none.

        Warnings do not count as wrong. A step's metrics tell of the weights that it began with, so a checkpoint of this
        step or an earlier one is healthy.
        """
        return max((min(end, step) for start, end in self._healthy if start <= step), default=-1)

    @property
    def state(self) -> dict[str, Any]:
        """JSON values; set again, the detector goes on as if it had never stopped."""
        return {
            "traces": {g: {q: asdict(t) for q, t in traces.items()} for g, traces in self._traces.items()},
            "alarms": {g: {r: asdict(a) for r, a in alarms.items()} for g, alarms in self._alarms.items()},
            "healthy": [list(span) for span in self._healthy],
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._traces = {g: {q: Trace(**t) for q, t in traces.items()} for g, traces in state["traces"].items()}
        self._alarms = {g: {r: Alarm(**a) for r, a in alarms.items()} for g, alarms in state["alarms"].items()}
        self._healthy = [list(span) for span in state["healthy"]]

    def _judge(self, step: int, game: str, fresh: set[str]) -> list[tuple[Collapse, Alarm]]:
        """What is certain and was not reported, with the alarm that is to remember that it was."""
        view = View(self._traces[game], fresh, game in self._perfect)
        alarms = self._alarms.setdefault(game, {})
        certain = []
        for name, rule in RULES.items():
            finding = rule.judge(view)
            if finding is None:
                continue
            alarm = alarms.setdefault(name, Alarm())
            if not finding.bad:
                self._calm(step, alarm, finding, rule)
            elif collapse := self._alarmed(step, game, alarm, finding, rule):
                certain.append((collapse, alarm))
        return certain

    def _patience(self, rule: Rule) -> int:
        return rule.patience or max(1, self._window // 2)

    def _calm(self, step: int, alarm: Alarm, finding: Finding, rule: Rule) -> None:
        """A stretch ends when it is clearly over, and one that was named only when it is so for as long again."""
        if finding.clear and alarm.bad:
            alarm.clear += 1
            if not alarm.named or alarm.clear >= self._patience(rule):
                alarm.bad, alarm.clear, alarm.severity, alarm.named = 0, 0, "", ""
        if not alarm.bad:
            alarm.sound = step

    def _alarmed(self, step: int, game: str, alarm: Alarm, finding: Finding, rule: Rule) -> Collapse | None:
        if not alarm.bad:
            alarm.since = step if finding.since is None else finding.since
            if finding.sound is not None:
                alarm.sound = finding.sound
            elif not rule.patience:  # a smoothed sign crosses its limit long after what moves it began
                alarm.sound = max(-1, alarm.sound - self._window)
        alarm.bad, alarm.clear, alarm.severity = alarm.bad + 1, 0, finding.severity
        if finding.severity == "collapse":
            self._retract(alarm.sound)
        if alarm.bad < self._patience(rule) or _RANK[finding.severity] <= _RANK[alarm.named]:
            return None
        since = min(alarm.since, step)  # a caller may go back
        sentence = f"{game + ': ' if game else ''}{finding.clause}, since step {since}."
        return Collapse(step, rule.kind, game, sentence, finding.severity, since)

    def _keep_healthy(self, step: int) -> None:
        if self._healthy and self._healthy[-1][1] == step - 1:
            self._healthy[-1][1] = step
        else:
            self._healthy = [*self._healthy, [step, step]][-MAX_SPANS:]

    def _retract(self, last: int) -> None:
        """Steps after `last` are not known to be healthy."""
        self._healthy = [[start, min(end, last)] for start, end in self._healthy if start <= last]
