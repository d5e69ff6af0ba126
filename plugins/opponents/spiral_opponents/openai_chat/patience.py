"""Says on the terminal that a remote model has not answered for a while, so that no wait is silent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from spiral import printable
from spiral_opponents.openai_chat.http import CallFailed

logger = logging.getLogger(__name__)

EVERY_S = 10.0
"""Seconds without an answer before a line, and between two lines of one remote model."""


class Patience:
    """Watches the calls of one remote model; its methods may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._num_asking = 0
        self._since = self._said = 0.0
        """Monotonic times of the last answer, or of the first question since; and of the last line."""
        self._cause = ""
        """Of the last failure since the last answer."""
        self._watched = False

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around one question with all its calls."""
        with self._changed:
            # The time of an outage goes on over the matches that it voids.
            if not self._num_asking and not self._cause:
                self._since = time.monotonic()
            self._num_asking += 1
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._num_asking -= 1

    def answered(self) -> None:
        """A call brought a whole answer."""
        with self._changed:
            self._since, self._cause = time.monotonic(), ""

    def failed(self, failed: CallFailed) -> None:
        """A call brought none."""
        with self._changed:
            self._cause = str(failed)

    def _watch(self) -> None:
        """Until no question is open, at the moment at which a line would be due."""
        with self._changed:
            while self._num_asking:
                left = max(self._since, self._said) + EVERY_S - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                self._said = time.monotonic()
                silent_s = self._said - self._since
                start = time.strftime("%H:%M:%S", time.localtime(time.time() - silent_s))
                last = f"the last call failed: {self._cause}" if self._cause else "its calls are still open"
                logger.warning(printable(f"{self._name}: no answer for {silent_s:.0f} s, since {start}; {last}"))
            self._watched = False
