"""The matches of one round of play: those that can go on, and those that wait for an answer; it makes no move."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from spiral.api.games import Game
from spiral.api.training import Engine
from spiral.api.records import Completion, Episode, PolicyId, Turn
from spiral.selfplay.bot_threads import Thinkers
from spiral.selfplay.time_limit import Watchdog

POLL_S = 0.05
"""Longest wait for a slow bot before the deadline is looked at again."""


@dataclass(slots=True)
class Group:
    """The games of one deal, voided together so that a group estimator never sees a part of one."""

    index: int
    attempt: int = 0
    episodes: dict[int, Episode] = field(default_factory=dict)


@dataclass(slots=True)
class Match:
    """One game in play."""

    group: Group
    attempt: int
    """The group's attempt that this match belongs to; a later one means that it was voided."""
    index: int
    game: Game
    name: str
    policies: list[PolicyId]
    deal: int
    seed: int
    rng: random.Random | None
    """For the bots at the table."""
    has_deadline: bool = True
    """False where somebody outside this process moves at once, such as a person at the terminal."""
    rules: str = ""
    player: int = 0
    observation: str = ""
    prompt: tuple[int, ...] = ()
    move: str | None = None
    """The move that is being played."""
    retries: int = 0
    num_asked: int = 0
    players: list[int] = field(default_factory=list)
    """Who made each turn so far."""
    turns: list[list[Turn]] = field(default_factory=list)
    """Each player's turns."""


@dataclass
class Hall:
    """The matches of one `play`: those that can go on, and those that wait for an answer."""

    root: int
    watchdog: Watchdog
    """For the games' own code."""
    engines: Sequence[Engine]
    ready: deque[Match] = field(default_factory=deque)
    asked: dict[int, Match] = field(default_factory=dict)
    """Number of a request to an engine -> who waits for it."""
    thinkers: Thinkers[Match] = field(default_factory=Thinkers)

    def __post_init__(self) -> None:
        self.engines = list({id(engine): engine for engine in self.engines}.values())

    @property
    def num_waiting(self) -> int:
        return len(self.asked) + len(self.thinkers)

    def answers(self) -> list[tuple[Match, Completion | str | Exception]]:
        """What engines and slow bots finished."""
        found: list[tuple[Match, Completion | str | Exception]] = []
        if self.asked:
            done = [c for engine in self.engines for c in engine.step()]
            # An engine may still be at what was asked of it in a play that was given up.
            found += [(self.asked.pop(c.request_id), c) for c in done if c.request_id in self.asked]
        return found + self.thinkers.answers(0.0 if self.asked or found else POLL_S)
