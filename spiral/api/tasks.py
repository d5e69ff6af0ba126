"""The Protocol of a task, one verifiable question; a benchmark is a named list of them.

The same list measures transfer (`spiral bench`) and, as one-player games, is what RLVR (reinforcement learning with
verifiable rewards) trains on.
"""

from __future__ import annotations

from typing import Protocol


class Task(Protocol):
    """A question with a grade that needs no judge; picklable. Having the members is enough. `spiral check` tests the
    promises.

    Optional member: `read(reply) -> str | None`, the answer that `grade` takes from a reply, None where there is none,
    so that what was not answered is told apart from what was wrong.
    """

    @property
    def id(self) -> str:
        """Unique in its benchmark and the same on every machine, so that two models are compared on the same
        questions."""

    @property
    def prompt(self) -> str:
        """The question alone: how to answer is for the prompt format to say."""

    @property
    def gold(self) -> str:
        """A reply that is graded 1, such as the right answer by itself."""

    def grade(self, reply: str) -> float:
        """From 0 to 1, of all that the policy replied, or of the answer alone. A pure function that returns in
        bounded time and raises nothing, whatever the text; may be called from several threads at once. Raises
        SpiralError where it cannot work at all, such as without a library that it needs."""
