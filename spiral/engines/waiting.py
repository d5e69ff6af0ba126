"""One deadline for every wait on an engine: a wait ends with a named cause and never hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from spiral.api.errors import RunError
from spiral.api.records import Completion
from spiral.api.training import Engine


class Deadline:
    """The longest time that may pass without an answer."""

    def __init__(self, seconds: float, setting: str) -> None:
        """`setting`: what the user can change, for the error."""
        self._seconds, self._setting = seconds, setting
        self._last_answer = time.monotonic()

    def answered(self) -> None:
        """Start the time again."""
        self._last_answer = time.monotonic()

    def check(self, waiting_for: str) -> None:
        """Raise RunError once the time is over; `waiting_for` says what has not been answered."""
        if time.monotonic() - self._last_answer > self._seconds:
            raise RunError(
                f"the engine finished no reply for {self._seconds:g} s, waiting for {waiting_for}; see its log, or "
                f"{self._setting}"
            )


def completions(engine: Engine, num: int, deadline: Deadline) -> Iterator[Completion]:
    """The next `num` completions of an engine, as they finish. Raises RunError when the deadline passes."""
    finished = 0
    while finished < num:
        found = engine.step()
        if found:
            deadline.answered()
            finished += len(found)
            yield from found
        else:
            deadline.check(f"{num - finished} of {num} replies")
