"""Accuracy over questions that are asked once or several times: pass@k, and means of benchmarks with intervals.

The question is the unit: replies to one question share its difficulty. A *share* is that of a question's replies that
were right, 0 or 1 where it is asked once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spiral.theory.intervals import TWO_SIDED_95, score_interval, wilson_interval


def pass_at_k(num: int, correct: int, k: int) -> float:
    """The chance that one of `k` replies to a question is right, unbiased from `num` replies of which `correct` were:
    1 - C(num - correct, k) / C(num, k) (Chen et al. 2021, eq. 1). Raises ValueError for fewer replies than `k`."""
    if not 1 <= k <= num or not 0 <= correct <= num:
        raise ValueError(f"pass@{k} cannot be estimated from {num} replies of which {correct} were right")
    return 1.0 - math.comb(num - correct, k) / math.comb(num, k)


def accuracy(shares: Sequence[float], once: bool) -> tuple[float, float, float]:
    """(mean, low, high), 95%: Wilson's interval where each question is asked `once`, else the same with the observed
    variance between questions (`score_interval`). (0, 0, 1) of nothing."""
    if not shares:
        return 0.0, 0.0, 1.0
    if once:
        return math.fsum(shares) / len(shares), *wilson_interval(math.fsum(shares), len(shares))
    return score_interval(shares)


def mean_of_means(
    groups: Sequence[Sequence[float]], lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float, float]:
    """(mean, low, high), 95%, of the unweighted mean over benchmarks of their means; its error is that of the same
    mean, sqrt(sum of the squared standard errors) / number of benchmarks, and not of all questions in one pot.

    `lowest`, `highest`: between which the values lie. Raises ValueError without benchmarks, or for an empty one.
    """
    if not groups or not all(map(len, groups)):
        raise ValueError("a mean over benchmarks needs at least one, and a question in each")
    mean = math.fsum(math.fsum(group) / len(group) for group in groups) / len(groups)
    error = math.sqrt(math.fsum(_squared_error(group, lowest, highest) for group in groups)) / len(groups)
    return mean, max(lowest, mean - TWO_SIDED_95 * error), min(highest, mean + TWO_SIDED_95 * error)


def _squared_error(values: Sequence[float], lowest: float, highest: float) -> float:
    """Of a mean, by the variance with n - 1; values that are all alike are joined by one at each bound, since they do
    not show how far others may lie from them."""
    alike = len(set(values)) == 1
    shown = np.asarray([*values, lowest, highest] if alike else values, dtype=float)
    return float(shown.var(ddof=1)) / len(shown)
