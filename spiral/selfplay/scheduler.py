"""Schedules matches in play: which can continue, and which wait for an engine or a bot."""

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

Answer = tuple[Match, Completion | str | Exception]
"""A match, and the reply, a bot's move, or what a bot raised."""


@dataclass
class Scheduler:
    """The matches that are not over."""

    time_limit: TimeLimit
    """For the games' own code."""
    ready: deque[Match] = field(default_factory=deque)
    asked: dict[int, Match] = field(default_factory=dict)
    """Number of a request to an engine -> the match that waits for it."""
    held: list[Answer] = field(default_factory=list)
    """Answers that were not played yet."""
    bot_threads: BotThreads[Match] = field(default_factory=BotThreads)

    @property
    def num_waiting(self) -> int:
        """Matches that wait for an answer, or whose answer waits."""
        return len(self.asked) + len(self.held) + len(self.bot_threads)

    def answers(self, engines: Sequence[Engine]) -> list[Answer]:
        """What engines and slow bots finished, after what was held."""
        found, self.held = self.held, []
        found += self.replies(engines)
        # Bots are waited for only where nothing else can be done, so that they never hold up an engine.
        return found + self.bot_threads.completed(0.0 if self.asked or found else POLL_S)

    def replies(self, engines: Sequence[Engine]) -> list[Answer]:
        """What the engines finished."""
        if not self.asked:
            return []
        finished = [c for engine in engines for c in engine.step()]
        # An engine may still be at what was asked of it in play that was given up.
        return [(self.asked.pop(c.request_id), c) for c in finished if c.request_id in self.asked]
