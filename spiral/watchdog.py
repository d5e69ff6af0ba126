"""Interrupts code of others that does not come back; knows nothing of what it does."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Watchdog:
    """`with watchdog:` raises TimeoutError inside the block once it took more than `seconds`.

    Only in the main thread of a process whose system has interval timers (not Windows), and between two instructions
    of Python; elsewhere it does nothing. Blocks may not be nested. `close` gives the signal back.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._works = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        if self._works:
            self._before = signal.signal(signal.SIGALRM, self._bite)

    def __enter__(self) -> None:
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def close(self) -> None:
        """Let the signal do what it did before."""
        if self._works:
            signal.signal(signal.SIGALRM, self._before)

    def _bite(self, number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {self._seconds:g} s; rollout.turn_deadline_s allows no more")
