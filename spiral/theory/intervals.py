"""The interval of a proportion; knows nothing of what was counted."""

from __future__ import annotations

import math


def wilson(count: float, total: float, z: float = 1.959964) -> tuple[float, float]:
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
