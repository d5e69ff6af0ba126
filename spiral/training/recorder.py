"""Writes each step of a run to its directory and tells the loggers; in the main process only."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from spiral.api.errors import PluginError
from spiral.api.records import Episode, VoidedGame
from spiral.cluster.orders import Span
from spiral.config.schema import Config
from spiral.reports.html.document import write_report
from spiral.runs import metric_names
from spiral.runs.directory import RunDir
from spiral.runs.episode_log import episode_record
from spiral.training.experience import Credit

GAP_S = 0.01
"""Seconds between two spans that are drawn as one."""


class Recorder:
    """What a step leaves behind."""

    def __init__(
        self, config: Config, run: RunDir, show: Callable[[Sequence[int]], str], hooks: Any, active: bool
    ) -> None:
        """`show`: ids -> text. `active`: whether this is the main process; the others write nothing."""
        self._config, self._run, self._hooks, self._active = config, run, hooks, active
        self._show = show

    def step(
        self,
        step: int,
        metrics: dict[str, float],
        episodes: Sequence[Episode],
        voided: Sequence[VoidedGame],
        credits: Sequence[Credit],
    ) -> None:
        """Write a step that was played; `credits`: of each policy in training."""
        if not self._active:
            return
        metrics = metrics | {metric_names.VOIDED: float(len(voided))}
        causes = Counter(game.cause for game in voided)
        metrics |= {metric_names.voided_by(cause): float(n) for cause, n in sorted(causes.items())}
        self._run.log_voided(step, voided)
        credit = {id(t): row for one in credits for t, row in zip(one.trajectories, one.advantages, strict=True)}
        kept = episodes[: self._config.checkpoint.episodes]
        self._run.append("episodes.jsonl", [episode_record(step, e, credit, self._show) for e in kept])
        self.metrics(step, metrics, episodes)

    def timeline(self, step: int, learners: Sequence[Span], others: Sequence[Span]) -> None:
        """Write what each process did in a step, where there are several."""
        if self._active and others:
            every = merged([*learners, *others])
            spans = [[one.lane, round(one.began, 3), round(one.ended, 3), one.what] for one in every]
            self._run.append("timeline.jsonl", [{"step": step, "spans": spans}])

    def metrics(self, step: int, metrics: dict[str, float], episodes: Sequence[Episode] = ()) -> None:
        """Write a line of metrics, such as those of a last evaluation, and tell the loggers."""
        if not self._active:
            return
        measured = dict(metrics)
        # Of all plug-ins before anything is written: a metric is in every record or in none.
        for own in self._hooks.measure_step(step=step, metrics=MappingProxyType(metrics), episodes=episodes):
            _add(measured, own)
        self._run.log(step, measured)
        self._hooks.step_finished(step=step, metrics=MappingProxyType(measured), episodes=episodes)

    def finish(self) -> None:
        """Tell the loggers that the run ended, and write its report."""
        if self._active:
            self._hooks.run_finished(step=self._config.steps)
            write_report(self._run.path)


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans of one process that follow each other without a gap, as one; in the order in which they began."""
    found: dict[tuple[str, str], list[Span]] = {}
    for span in sorted(spans, key=lambda one: one.began):
        known = found.setdefault((span.lane, span.what), [])
        if known and span.began - known[-1].ended < GAP_S:
            known[-1] = replace(known[-1], ended=max(known[-1].ended, span.ended))
        else:
            known.append(span)
    return sorted(itertools.chain.from_iterable(found.values()), key=lambda one: (one.began, one.lane))


def _add(metrics: dict[str, float], own: object) -> None:
    """Raises PluginError for what a plug-in measured and that is no metric of its own."""
    if not isinstance(own, Mapping):
        raise PluginError(f"measure_step returned {own!r}, and must return names with numbers, or None")
    for name, value in own.items():
        if name in metrics:
            raise PluginError(f"measure_step returned '{name}', which was measured already; give it a name of its own")
        try:
            metrics[str(name)] = float(value)
        except (TypeError, ValueError) as error:
            raise PluginError(f"measure_step returned {value!r} for '{name}', which is no number") from error
