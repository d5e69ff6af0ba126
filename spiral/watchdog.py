"""Interrupts code of others that does not come back; knows nothing of what it does."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Watchdog:
    """`with watchdog:` raises TimeoutError inside the block once it took more than `seconds`.

    Only in the main thread of a process whose system has interval timers (not Windows), and between two instructions
    of Python; elsewhere it does nothing. Blocks may not be nested.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._works = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        self._before: Any = None

    def __enter__(self) -> None:
        if self._works:
            self._before = signal.signal(signal.SIGALRM, self._bite)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def _bite(self, number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {self._seconds:g} s")
