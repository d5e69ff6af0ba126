"""Time limits for the code of games and bots: TimeoutError in the main thread when a block runs too long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class TimeLimit:
    """After `start`, `with time_limit:` raises TimeoutError inside the block once it took more than `seconds`.

    Only in the main thread of a process whose system has interval timers (not Windows), and between two instructions
    of Python; elsewhere it does nothing. Blocks may not be nested. One timer ticks for all blocks, since they are many
    and short: a block is interrupted at its second tick, after half of the time to all of it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._works = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        self._before: Any = None
        self._inside, self._ticks = False, 0

    def start(self) -> None:
        """Take the alarm signal."""
        if self._works:
            self._before = signal.signal(signal.SIGALRM, self._tick)
            signal.setitimer(signal.ITIMER_REAL, self._seconds / 2, self._seconds / 2)

    def close(self) -> None:
        """Give the alarm signal back."""
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def __enter__(self) -> None:
        self._ticks, self._inside = 0, True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False

    def _tick(self, number: int, frame: FrameType | None) -> None:
        if self._inside:
            self._ticks += 1
            # The first tick may come just after the block began; only the second proves that it took long.
            if self._ticks > 1:
                raise TimeoutError(f"no end after {self._seconds:g} s")


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """One block under a time limit of its own."""
    time_limit = TimeLimit(seconds)
    time_limit.start()
    try:
        with time_limit:
            yield
    finally:
        time_limit.close()
