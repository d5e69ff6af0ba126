"""Differences between two policies on the same questions: McNemar's exact test, and the paired bootstrap.

Questions differ more in difficulty than policies in skill, so the difference on each question is what tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiral.theory.bootstrap import DOUBT, percentiles

NUM_SAMPLES = 4000
"""Bootstrap samples of an interval."""


@dataclass(frozen=True)
class Difference:
    """What the second of two policies gets beyond the first, on the same questions."""

    mean: float
    low: float
    """Of the 95% interval of `mean`, as the next."""
    high: float
    better: int
    """Questions on which the second did better."""
    worse: int
    """And worse."""
    p_value: float | None
    """McNemar's exact test, two-sided; None where questions are asked more than once."""


def mcnemar(better: int, worse: int) -> float:
    """The two-sided p-value of McNemar's test by the binomial distribution (exact, not by chi-square): were both
    policies equally good, each question on which they differ would be a fair coin. 1 where they never differ."""
    num = better + worse
    tail = sum(math.comb(num, k) for k in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**num))


def paired(first: Sequence[float], second: Sequence[float], once: bool, seed: int) -> Difference:
    """The difference of two policies' shares right, one a question and each from 0 to 1.

    `once`: whether every question was asked once, so that shares are 0 or 1. Raises ValueError without questions.
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    if not len(differences):
        raise ValueError("a difference needs at least one question")
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    low, high = _bootstrapped(differences, seed)
    return Difference(float(differences.mean()), low, high, better, worse, mcnemar(better, worse) if once else None)


def _bootstrapped(differences: np.ndarray, seed: int) -> tuple[float, float]:
    """The middle 95% of the mean over questions drawn anew, with replacement.

    To each sample come about `DOUBT` questions that only the one got right, and as many that only the other did:
    without them policies that differed nowhere, or everywhere, would be certain to.
    """
    rng, num = np.random.default_rng(seed), len(differences)
    # By value and not by question: only how often each value is drawn counts, and there are few.
    values, counts = np.unique(differences, return_counts=True)
    drawn = rng.multinomial(num, counts / num, size=NUM_SAMPLES) @ values
    doubt = rng.poisson(DOUBT, size=(2, NUM_SAMPLES))
    low, high = percentiles((drawn + doubt[0] - doubt[1]) / (num + doubt.sum(0)))
    return float(low), float(high)
