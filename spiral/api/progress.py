"""What a long piece of work tells of itself: its name, how much there is of it, and how much is done by now.

The work says it once; who shows it asks for the count whenever it wants to, so that counting costs the work nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """One piece of work. Its callables are asked from another thread, and must only look."""

    name: str
    """Such as `playing`."""
    total: float = 0
    """How much there is, in `unit`; 0 where it cannot be counted."""
    unit: str = ""
    """In the plural, such as `games`."""
    done: Callable[[], float] = lambda: 0.0
    note: Callable[[], str] = lambda: ""
    """What else is known by now."""


Progress = Callable[[Phase], None]
"""progress(phase): the work goes on with this, and what was before it is over."""


def no_progress(phase: Phase) -> None:
    """For work that is not watched."""
