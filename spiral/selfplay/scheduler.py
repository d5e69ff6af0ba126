"""Schedules the matches of one `play` call: which can continue, and which wait for an engine or a bot."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from spiral.api.records import Completion
from spiral.api.training import Engine
from spiral.selfplay.bot_threads import BotThreads
from spiral.selfplay.match import Match
from spiral.selfplay.time_limit import TimeLimit

POLL_S = 0.05
"""Longest wait for a slow bot before the deadline is looked at again."""


@dataclass
class Scheduler:
    """The matches that are not over."""

    root: int
    """The seed of this `play` call."""
    time_limit: TimeLimit
    """For the games' own code."""
    engines: Sequence[Engine]
    ready: deque[Match] = field(default_factory=deque)
    asked: dict[int, Match] = field(default_factory=dict)
    """Number of a request to an engine -> the match that waits for it."""
    bot_threads: BotThreads[Match] = field(default_factory=BotThreads)

    @property
    def num_waiting(self) -> int:
        return len(self.asked) + len(self.bot_threads)

    def answers(self) -> list[tuple[Match, Completion | str | Exception]]:
        """What engines and slow bots finished: a reply, a move, or what a bot raised."""
        found: list[tuple[Match, Completion | str | Exception]] = []
        if self.asked:
            finished = [c for engine in self.engines for c in engine.step()]
            # An engine may still be at what was asked of it in a `play` that was given up.
            found += [(self.asked.pop(c.request_id), c) for c in finished if c.request_id in self.asked]
        # Bots are waited for only where nothing else can be done, so that they never hold up an engine.
        return found + self.bot_threads.completed(0.0 if self.asked or found else POLL_S)
