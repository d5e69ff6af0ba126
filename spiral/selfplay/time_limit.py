"""Time limits for the code of games and bots: TimeoutError in its thread when a block runs too long."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class TimeLimit:
    """After `start`, `with time_limit:` raises TimeoutError inside the block once it took more than `seconds`.

    Only between two instructions of Python, and in the thread that called `start`. Blocks may not be nested. One timer
    ticks for all blocks, since they are many and short: a block is interrupted at its second tick, after half of the
    time to all of it. In the main thread the timer is the system's, an alarm; elsewhere, and on a system without
    alarms, a thread.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._before: Any = None
        self._watch: _Watch | None = None
        self._inside, self._ticks = False, 0

    def start(self) -> None:
        """Begin to tick."""
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGALRM, self._tick)
            signal.setitimer(signal.ITIMER_REAL, self._seconds / 2, self._seconds / 2)
        else:
            self._watch = _Watch(self._seconds)

    def close(self) -> None:
        """Tick no more."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        elif self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            self._before = None

    def __enter__(self) -> None:
        if self._watch is not None:
            self._watch.enter()
        else:
            self._ticks, self._inside = 0, True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.leave()
        else:
            self._inside = False

    def _tick(self, number: int, frame: FrameType | None) -> None:
        if self._inside:
            self._ticks += 1
            # The first tick may come just after the block began; only the second proves that it took long.
            if self._ticks > 1:
                raise TimeoutError(_message(self._seconds))


class _Watch:
    """Ticks in a thread, for the thread that made it."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._watched = seconds, threading.get_ident()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._inside, self._ticks = False, 0
        threading.Thread(target=self._run, name="time limit", daemon=True).start()

    def enter(self) -> None:
        with self._lock:
            self._ticks, self._inside = 0, True

    def leave(self) -> None:
        with self._lock:
            self._inside = False
            if self._ticks > 1:  # what was thrown and has not arrived belongs to no later block
                self._throw(None)

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._seconds / 2):
            with self._lock:
                self._ticks += self._inside
                if self._inside and self._ticks == 2:  # as of an alarm; once, since an error on its way is enough
                    self._throw(_error(self._seconds))

    def _throw(self, error: type[BaseException] | None) -> None:
        thrown = None if error is None else ctypes.py_object(error)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._watched), thrown)


def _error(seconds: float) -> type[TimeoutError]:
    """The interpreter makes the exception, without arguments, in the thread that it is thrown into."""

    class Late(TimeoutError):
        def __init__(self) -> None:
            super().__init__(_message(seconds))

    Late.__name__ = TimeoutError.__name__
    return Late


def _message(seconds: float) -> str:
    return f"no end after {seconds:g} s"


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
