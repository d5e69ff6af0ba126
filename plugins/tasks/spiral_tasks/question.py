"""A question of a benchmark, and the Protocol of what grades its answers."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from spiral import SpiralError
from spiral_tasks.grading.pool import NotBegun

log = logging.getLogger(__name__)


_failures: Counter[str] = Counter()
"""Cause -> replies without a grade, in this process."""


class Grader(Protocol):
    """Grades replies to one question; picklable."""

    def read(self, reply: str) -> str | None:
        """The answer in a reply; None without one."""

    def grade(self, gold: str, reply: str) -> float:
        """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Question:
    """A `spiral.Task` whose grade is its grader's."""

    id: str
    prompt: str
    gold: str
    grader: Grader

    def grade(self, reply: str) -> float:
        """Of the whole reply, or of the answer alone; 0 where the grader fails on it, which is logged.

        Raises SpiralError for a grader that does not work at all: 0 would be said of right answers too.
        """
        try:
            return self.grader.grade(self.gold, reply)
        except NotBegun as error:
            raise SpiralError(
                f"replies to {self.id} cannot be graded, right ones neither: the grader's process {error}; "
                'pip install "spiral-selfplay[tasks]" brings what it needs'
            ) from error
        except Exception as error:  # such as a recursion too deep: whatever a model writes, the run goes on
            _tell(self.id, error)
            return 0.0

    def read(self, reply: str) -> str | None:
        """The answer in a reply; None without one."""
        try:
            return self.grader.read(reply)
        except Exception:
            return None


def _tell(id: str, error: Exception) -> None:
    """The first reply of a cause, and then ever fewer of them: a model may write many alike."""
    cause = f"{type(error).__name__}: {error}"
    _failures[cause] += 1
    num = _failures[cause]
    if str(num).strip("0") == "1":
        log.warning("a reply to %s counts as wrong, since it cannot be graded (%s; %d such so far)", id, cause, num)
