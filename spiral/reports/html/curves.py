"""Curves of a run: metrics.jsonl read into one curve a metric, and thinned to what a chart can show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

from spiral.reports.html.values import Json, as_float, rounded

MAX_POINTS = 1000
"""Points of a curve; a longer one keeps the lowest and highest of each stretch."""
NUM_MEANS = 60
"""Stretches whose mean is drawn over a noisy curve."""

T = TypeVar("T")
Points = list[tuple[int, float]]


def read_curves(rows: Iterator[Json]) -> dict[str, Points]:
    """Name, in order of appearance -> (step, value) by rising step.

    Of two values for a step the later line's counts: a resumed run writes its last steps again.
    """
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        step = row.pop("step", None)
        if not isinstance(step, int):
            continue
        for name, value in row.items():
            if isinstance(value, int | float):
                curves.setdefault(name, {})[step] = as_float(value)
    return {name: sorted(curve.items()) for name, curve in curves.items()}


def downsample(points: Sequence[tuple[int, float]], limit: int = MAX_POINTS) -> Points:
    """At most `limit` of `points`: both ends, and the lowest and highest of each equal stretch between.

    Extremes and not every n-th point: a single step at which the gradient exploded must stay visible.
    """
    if len(points) <= limit:
        return list(points)
    middle, num_stretches = points[1:-1], max(1, (limit - 2) // 2)
    kept = {points[0], points[-1]}
    for stretch in _stretches(middle, num_stretches):
        kept |= {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
    return sorted(kept)


def series(points: Points) -> Json:
    """A curve as the page draws it; values that are not finite are left out and counted."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    kept = downsample(finite)
    # Of all points and not of the kept ones: those are extremes, whose mean would be biased.
    means = [
        (stretch[len(stretch) // 2][0], math.fsum(value for _, value in stretch) / len(stretch))
        for stretch in (_stretches(finite, NUM_MEANS) if len(finite) > 3 * NUM_MEANS else ())
    ]
    return {
        "x": [step for step, _ in kept],
        "y": [rounded(value) for _, value in kept],
        "mean_x": [step for step, _ in means],
        "mean_y": [rounded(value) for _, value in means],
        "not_finite": len(points) - len(finite),
    }


def total(points: Points) -> float:
    """The sum of a curve's finite values."""
    return rounded(math.fsum(value for _, value in points if math.isfinite(value)))


def _stretches(items: Sequence[T], count: int) -> list[Sequence[T]]:
    """`items` cut into `count` runs of nearly equal length, none empty."""
    cuts = [i * len(items) // count for i in range(count + 1)]
    return [items[a:b] for a, b in itertools.pairwise(cuts) if a < b]
