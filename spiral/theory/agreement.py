"""Agreement of two judges that sort the same items into two classes: Cohen's kappa, with a bootstrap over items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiral.theory.bootstrap import percentiles
from spiral.theory.intervals import Floats

RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree on `num` items."""

    num: int
    agreement: float
    """The share of items on which they say the same; 0 of no items."""
    kappa: float | None
    """None where it is not defined: without items, and where both judges say one and the same of all of them, since
    chance alone would then agree as well."""
    low: float | None
    high: float | None
    """The middle 95% of the bootstrap; None without items."""


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """(p_o - p_e) / (1 - p_e): observed agreement p_o beyond that of chance p_e, over 1 less that (Cohen 1960).

    None where p_e is 1 or there is no item. Raises ValueError for judges that did not judge the same items.
    """
    table = _table(first, second)
    if not table.sum():
        return None
    value = float(_kappa(table / table.sum()))
    return None if np.isnan(value) else value


def agreement(first: Sequence[bool], second: Sequence[bool], seed: int) -> Agreement:
    """Agreement with the interval of a bootstrap over items; the same seed, the same interval.

    One more item is drawn with the others, spread evenly over the four outcomes: without it, judges that never differed
    would be certain never to do so. Raises ValueError for judges that did not judge the same items.
    """
    table = _table(first, second)
    num = int(table.sum())
    if not num:
        return Agreement(0, 0.0, None, None, None)
    rng = np.random.default_rng(seed)
    shares = (table + 0.25) / (num + 1)
    drawn = rng.multinomial(num + 1, shares.ravel(), size=RESAMPLES).reshape(-1, 2, 2) / (num + 1)
    kappas = _kappa(drawn)
    found = kappas[~np.isnan(kappas)]  # a sample in which both say one and the same of all says nothing of kappa
    low, high = percentiles(found) if len(found) else (-1.0, 1.0)
    return Agreement(num, float(np.trace(table)) / num, cohen_kappa(first, second), float(low), float(high))


def _table(first: Sequence[bool], second: Sequence[bool]) -> Floats:
    """(2, 2): how many items the first judge put into the row's class, and the second into the column's."""
    if len(first) != len(second):
        raise ValueError(f"the judges judged {len(first)} and {len(second)} items, and must judge the same ones")
    table = np.zeros((2, 2))
    for one, other in zip(first, second, strict=True):
        table[int(one), int(other)] += 1
    return table


def _kappa(shares: Floats) -> Floats:
    """Kappa of tables of shares, (..., 2, 2) -> (...); nan where it is not defined."""
    observed = shares[..., 0, 0] + shares[..., 1, 1]
    chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    left = 1 - chance
    # Sums of floats leave a rest of 1e-16 where chance is 1.
    return np.where(left > 1e-12, (observed - chance) / np.maximum(left, 1e-12), np.nan)
