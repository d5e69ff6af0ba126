"""What came of a client's games and requests, until the client takes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from spiral.api.records import Completion, Episode, VoidedGame
from spiral.cluster.orders import Key, Span, Ticket


class Results:
    """Filled by the thread that hears the players, under `lock`; what takes something has the lock for as long."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self.finished: dict[Key, tuple[float, Sequence[Episode]]] = {}
        """Group -> when it was over, and its games."""
        self.played: list[Episode] = []
        """All games that ended, those that do not count among them."""
        self.returned: list[Ticket] = []
        """Groups that have to be drawn anew."""
        self.voided: list[tuple[Ticket, VoidedGame]] = []
        self.completions: list[Completion] = []
        self.spans: list[Span] = []

    def forget(self) -> None:
        """Nothing is asked for any more."""
        self.finished.clear()
        self.returned.clear()
        self.voided.clear()

    def num_done(self, keys: Iterable[Key]) -> int:
        """How many of these groups are over."""
        return sum(key in self.finished for key in keys)

    def take(self, key: Key) -> tuple[float, Sequence[Episode]]:
        """When a group was over, and its games, once."""
        with self._lock:
            return self.finished.pop(key)

    def take_played(self) -> list[Episode]:
        """The games that ended since this was last asked."""
        with self._lock:
            played, self.played = self.played, []
            return played

    def take_returned(self) -> list[Ticket]:
        """The groups that have to be drawn anew."""
        with self._lock:
            returned, self.returned = self.returned, []
            return returned

    def take_voided(self, step: int) -> list[VoidedGame]:
        """The matches of a step that were voided."""
        with self._lock:
            mine = [game for ticket, game in self.voided if ticket.step == step]
            self.voided = [pair for pair in self.voided if pair[0].step != step]
            return mine

    def take_completions(self) -> list[Completion]:
        """Replies to what was asked."""
        with self._lock:
            found, self.completions = self.completions, []
            return found

    def take_spans(self) -> list[Span]:
        """What the players did since this was last asked."""
        with self._lock:
            spans, self.spans = self.spans, []
            return spans
