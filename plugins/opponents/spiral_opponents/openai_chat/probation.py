"""Whether a url speaks the protocol at all: until it has once, few answers that are something else stop the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from spiral import SpiralError
from spiral_opponents.openai_chat.http import CallFailed, NotProtocol

TRIES = 3
"""Answers that are not of the protocol which a url may give before its first that is; of all games together."""


class Probation:
    """Around each call of one remote model; its methods may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._proven, self._open = False, False
        self._num_in_flight = self._num_wrong = 0
        self._verdict = ""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Waits for other calls while too many might be wrong. Raises SpiralError once TRIES were."""
        with self._changed:
            # Games begin at once: without this wait each of them would find out by itself that the url is wrong.
            self._changed.wait_for(lambda: self._open or self._verdict or self._num_in_flight + self._num_wrong < TRIES)
            if self._verdict:
                raise SpiralError(self._verdict)
            self._num_in_flight += 1
        try:
            yield
            self._learn(proven=True)
        except NotProtocol as wrong:
            if verdict := self._learn(wrong=wrong):
                raise SpiralError(verdict) from wrong
            raise
        except CallFailed as failed:
            # A reply that was cut off is of the protocol. A server that is down proves nothing, and must not be asked
            # by a few games at a time: that would take many times as long.
            self._learn(proven=failed.answered)
            raise
        finally:
            with self._changed:
                self._num_in_flight -= 1
                self._changed.notify_all()

    def _learn(self, proven: bool = False, wrong: NotProtocol | None = None) -> str:
        """Take note of an answer; the sentence to stop with, if it was the last one allowed."""
        with self._changed:
            self._proven = self._proven or proven
            self._open = self._open or wrong is None
            if wrong is not None and not self._proven:
                self._num_wrong += 1
                if self._num_wrong >= TRIES:
                    self._verdict = (
                        f"{self._name}: {TRIES} answers were no chat completion, the last one {wrong.detail}; check "
                        "that url ends before /chat/completions (often with /v1), that the model's server listens "
                        "there, and that no page before it asks for a login"
                    )
            return self._verdict if wrong is not None else ""
