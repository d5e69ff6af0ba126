"""Signals that ask a run to stop: the first ends what can be given up and lets a checkpoint be written, the second ends
everything at once.

Apart from the loop, since what may be given up is decided where the processes of a run agree on it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C; and what schedulers of clusters, `docker stop` and `kill` send."""


class StopRequested(KeyboardInterrupt):
    """A signal asked the run to stop. Of KeyboardInterrupt's kind, so that no plug-in's `except Exception` takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """While entered, takes SIGINT and SIGTERM, and gives them back; in the main thread only, since no other may.

    The first signal raises StopRequested inside `interrupted` blocks, or at the start of the next one; the second
    raises it anywhere.
    """

    def __init__(self, announce: Callable[[float | None], None] = lambda seconds: None) -> None:
        """`announce` is told of the first signal, in its handler, with `takes_s`."""
        self.takes_s: float | None = None
        """About how long it takes to end a step and write a checkpoint; None before it was measured."""
        self.num_received = 0
        self._announce = announce
        self._number: int | None = None
        self._may_raise = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            # A signal that is ignored stays so, as in the background jobs of a shell; None: not set by Python.
            before = {number: signal.getsignal(number) for number in NUMBERS}
            self._before = {n: handler for n, handler in before.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._take)
        return self

    def take_again(self) -> None:
        """Take the signals once more, where a library took them meanwhile."""
        for number in self._before:
            signal.signal(number, self._take)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """A block that changes nothing which a checkpoint keeps, so that it can be given up anywhere."""
        self._may_raise = True
        try:
            # After the line above: a signal between the two is taken by the handler.
            if self._number is not None:
                raise StopRequested(self._number)
            yield
        finally:
            self._may_raise = False

    @property
    def number(self) -> int | None:
        """Of the last signal; None before the first."""
        return self._number

    def check(self) -> None:
        """Raise StopRequested if a signal came; for a wait in a thread, which no signal interrupts."""
        if self._number is not None:
            raise StopRequested(self._number)

    def ask(self, number: int) -> None:
        """As a signal of this number would, from another thread: for where signals cannot be sent."""
        self.num_received += 1
        self._number = number

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.num_received += 1
        if self.num_received == 1:
            self._announce(self.takes_s)
        self._number = number
        if self._may_raise or self.num_received > 1:
            raise StopRequested(number)
