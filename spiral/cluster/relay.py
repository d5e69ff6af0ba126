"""What the learner's process tells the command that started it, and what it is told: kept in an actor between them,
since either may be gone for a while."""

from __future__ import annotations

from typing import Any

Doing = tuple[str, float, str, float, str]
"""A phase as it is now: its name, total and unit, how much is done, and its note."""


class Relay:
    """An actor that holds messages to the command, and a request to stop."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Any]] = []
        self._phase: Doing | None = None
        self._stop: int | None = None
        self._num_starts = 0

    def starts(self) -> int:
        """Called by each start of the learner's first process: how many there were before."""
        self._num_starts += 1
        return self._num_starts - 1

    def tell(self, messages: list[tuple[str, Any]], phase: Doing | None) -> int | None:
        """Keep messages, and what is being done; the signal that asks the run to stop, if there was one."""
        self._messages += messages
        self._phase = phase
        return self._stop

    def stop(self, number: int) -> None:
        """Ask the run to stop, as this signal would."""
        self._stop = number

    def take(self) -> tuple[list[tuple[str, Any]], Doing | None]:
        """The messages that were not taken yet, and what is being done now."""
        messages, self._messages = self._messages, []
        return messages, self._phase
