"""Which of the learner's snapshots stay in the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Rule = Literal["last", "spaced", "best"]


def retained(steps: Sequence[int], size: int, rule: Rule, worth: Mapping[int, float]) -> list[int]:
    """At most `size` of the ascending `steps`, the newest always among them.

    `last`: the newest. `spaced`: the first too, and between the ends as evenly as can be, by dropping whichever leaves
    the smallest gap; done at every snapshot this thins out the past evenly. `best`: the highest `worth`.
    """
    left = list(steps)
    while len(left) > size:
        inner = range(len(left) - 1)
        if rule == "last" or size == 1:
            out = 0
        elif rule == "best":
            out = min(inner, key=lambda i: (worth[left[i]], left[i]))
        else:
            out = min(inner[1:], key=lambda i: (left[i + 1] - left[i - 1], left[i]))
        del left[out]
    return left
