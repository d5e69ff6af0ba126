"""Paired timing of any two pieces of work, and the figures that come of it.

Machines differ and neighbours make noise, so every timing is a ratio of two pieces of work done one after the other
in one process, several times over. The headline is the median ratio of process CPU time, which a busy neighbour
disturbs least; ratios of wall time stand beside it.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Timing:
    """What one piece of work took, in seconds."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the output."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True
    """Whether the target is a floor; otherwise it is a ceiling."""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def meets(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        """The figure as one line of JSON."""
        row = {k: v for k, v in asdict(self).items() if k != "at_least"}
        order = ("name", "value", "unit", "target", "meets", "detail")
        row["meets"] = self.meets
        return json.dumps({key: rounded(row[key]) for key in order})


def timed(work: Callable[[], object]) -> Timing:
    """Run `work` once, with earlier garbage collected first so that it does not pay for it."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.process_time() - cpu, time.perf_counter() - wall)


def alternate(
    works: Sequence[Callable[[], object]],
    repeats: int,
    warm_up: int = 1,
    before: Callable[[], object] = lambda: None,
) -> list[list[Timing]]:
    """out[i][r]: what `works[i]` took in repetition r; every other repetition goes through them backwards.

    `before`: done before each, outside of its time.
    """
    for _ in range(warm_up):
        for work in works:
            before()
            work()
    out: list[list[Timing]] = [[] for _ in works]
    for repeat in range(repeats):
        order = range(len(works)) if repeat % 2 == 0 else reversed(range(len(works)))
        for index in order:
            before()
            out[index].append(timed(works[index]))
    return out


def ratios(over: Sequence[Timing], under: Sequence[Timing], scale: float = 1.0) -> dict[str, dict[str, float]]:
    """min, median and max of scale * over / under, by CPU time and by wall time."""
    pairs = list(zip(over, under, strict=True))
    return {
        "cpu": spread(scale * a.cpu / b.cpu for a, b in pairs),
        "wall": spread(scale * a.wall / b.wall for a, b in pairs),
    }


def spread(values: Iterable[float]) -> dict[str, float]:
    """min, median and max."""
    values = list(values)
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def median_cpu(timings: Sequence[Timing]) -> float:
    """Median CPU seconds."""
    return statistics.median(t.cpu for t in timings)


def rounded(value: Any) -> Any:
    """Floats to four digits, through dicts and lists."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return value


def say(text: str) -> None:
    """One line for people, apart from the JSON."""
    print(text, file=sys.stderr, flush=True)
