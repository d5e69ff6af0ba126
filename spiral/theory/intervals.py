"""Confidence intervals of proportions and means, and the normal quantiles behind every interval of spiral."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TWO_SIDED_95 = NormalDist().inv_cdf(0.975)
"""Standard deviations on each side of a mean that hold 95%."""
ONE_SIDED_95 = NormalDist().inv_cdf(0.95)
"""Standard deviations below a mean that leave 5% out."""
TWO_SIDED_99 = NormalDist().inv_cdf(0.995)


def wilson_interval(count: float, total: float, z: float = TWO_SIDED_95) -> tuple[float, float]:
    """The score interval of the proportion `count` / `total` (Wilson 1927), 95% by default; (0, 1) of nothing.

    Both may be fractions: draws that count as halves make it a little too wide.
    """
    if total <= 0:
        return 0.0, 1.0
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    inside = max(0.0, share * (1 - share)) / total + z * z / (4 * total * total)
    half = z / (1 + z * z / total) * math.sqrt(inside)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(
    count: float, total: float, other_count: float, other_total: float, z: float = TWO_SIDED_95
) -> tuple[float, float]:
    """The interval of the difference of two independent proportions, `count` / `total` less the other, 95% by default:
    Newcombe's from the two Wilson intervals (1998, method 10); (-1, 1) where there is nothing of one of them."""
    if total <= 0 or other_total <= 0:
        return -1.0, 1.0
    share, other = count / total, other_count / other_total
    low, high = wilson_interval(count, total, z)
    other_low, other_high = wilson_interval(other_count, other_total, z)
    below, above = math.hypot(share - low, other_high - other), math.hypot(high - share, other - other_low)
    return share - other - below, share - other + above


def score_interval(deals: Sequence[float] | Floats, z: float = TWO_SIDED_95) -> tuple[float, float, float]:
    """(mean, low, high) of the mean score, from one mean score a deal, each from 0 to 1; (1/2, 0, 1) without deals.

    Wilson's interval (1927) with the observed variance in the place of p(1 - p): for deals that are won or lost it is
    Wilson's, draws and players that cancel make it narrower, and it stays wider than 0 where all deals agree.
    """
    scores = np.asarray(deals, dtype=float)
    n = len(scores)
    if n == 0:
        return 0.5, 0.0, 1.0
    mean, variance = float(scores.mean()), float(scores.var())
    middle = (n * mean + z * z / 2) / (n + z * z)
    half = z * math.sqrt(n * variance + z * z / 4) / (n + z * z)
    return mean, max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(
    deals: Sequence[float] | Floats, lowest: float, highest: float, z: float = TWO_SIDED_95
) -> tuple[float, float, float]:
    """(mean, low, high) of the mean of values that lie between two bounds, one a deal: `score_interval`, scaled; `z`
    deviations to each side, of which a one-sided bound takes one.

    Not Student's: of deals that all came out alike it would be certain, and two policies that are almost the same play
    almost the same games from one seed. Of few deals it is wide, as it has to be for returns that are seldom large.
    Raises ValueError for bounds that leave no room; see `plausible_range`.
    """
    width = highest - lowest
    if not width > 0:
        raise ValueError(f"the values lie between {lowest} and {highest}, which leaves no room for an interval")
    if not len(deals):
        return lowest, lowest, highest
    mean, low, high = score_interval((np.asarray(deals, dtype=float) - lowest) / width, z)
    return lowest + width * mean, lowest + width * low, lowest + width * high


def plausible_range(
    values: Iterable[float], lowest: float | None = None, highest: float | None = None
) -> tuple[float, float]:
    """The bounds of what was promised and seen; values that are all alike, and no promise, are taken for one of two
    that are 1 apart, since they do not show how far they may lie from each other."""
    known = [*values, *(bound for bound in (lowest, highest) if bound is not None)] or [0.0]
    low, high = min(known), max(known)
    return (low, high) if low < high else (low - (lowest is None), high + 1)
