"""One match between its players, from the first question to the rating; knows no network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from spiral.api.games import IllegalMove
from spiral.api.records import outcome_of, outcome_word
from spiral.arena import match_log
from spiral.arena.game_process import GameFault, GameHost
from spiral.arena.game_worker import View
from spiral.arena.match_log import MatchEnded
from spiral.arena.records import Ending, Move, Player, RatingChange
from spiral.arena.reply_tokens import Tokens
from spiral.arena.store import Store

MAX_ILLEGAL = 3
"""Illegal moves in a turn after which a player forfeits, unless it is asked again until its clock has run out."""

PENDING_S = 1.0
"""After which players are told that the end of their match is not written yet."""

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """A player's answer."""

    move: str
    said: str = ""
    """All that was written, the move in it."""
    tokens: Tokens | None = None
    """Of a policy of the house: what that was sampled as."""


@dataclass(frozen=True)
class Question:
    """What a player is asked."""

    match: int
    number: int
    """Of the turn, counted from 0."""
    seat: int
    view: View
    clock_s: float

    @property
    def observation(self) -> str:
        """What this player may know."""
        return self.view.observations[self.seat]


@dataclass(frozen=True)
class Over:
    """How a match ended."""

    match: int
    returns: tuple[float, ...]
    ending: str
    """See `spiral.arena.store.Ending`, or of a voided match its cause."""
    offender: int | None
    voided: bool
    changes: tuple[RatingChange, ...]
    observations: tuple[str, ...]
    """The last, one a seat."""

    def outcome(self, seat: int) -> str:
        """Of a seat: win, draw, loss or voided."""
        if self.voided:
            return "voided"
        return outcome_word(outcome_of(self.returns, seat))


class Seat(Protocol):
    """A player of a match: a person or a model behind a connection, or a player of the house."""

    player: Player
    patient: bool
    """Whether it is asked again after any number of illegal moves, until its clock has run out."""

    async def choose(self, question: Question) -> Said:
        """A move. Raises Left if the player gives the match up."""

    def refused(self, question: Question, reason: str) -> None:
        """Its move was illegal; it is asked again, if at all."""

    def shown(self, question: Question) -> None:
        """The match as it stands while another player is asked, or directly before this one is."""

    def pending(self, match: int) -> None:
        """The match ended, and what came of it is told as soon as the database has taken it."""

    def over(self, over: Over) -> None:
        """The match ended."""


class Watcher(Protocol):
    """Follows a match without playing in it."""

    def shown(self, room: Room) -> None:
        """A player is asked, or asked again."""

    def over(self, over: Over) -> None:
        """The match ended."""


class Left(Exception):
    """A player gave the match up."""


class _Forfeit(Exception):
    def __init__(self, seat: int, ending: Ending) -> None:
        super().__init__(ending)
        self.seat, self.ending = seat, ending


class Room:
    """A match in play. `run` ends when it has."""

    def __init__(
        self,
        match: int,
        game: str,
        seed: int,
        seats: Sequence[Seat],
        store: Store,
        host: GameHost,
        clock_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.match, self.game, self.seed, self.seats = match, game, seed, tuple(seats)
        self._store, self._host, self._clock_s, self._now = store, host, clock_s, now
        self.question: Question | None = None
        """What is asked now."""
        self.deadline = 0.0
        """When the clock of that question runs out, by `now`."""
        self.watchers: set[Watcher] = set()
        self._number = 0

    @property
    def left_s(self) -> float:
        """What is left on the clock of the player that is asked."""
        return max(0.0, self.deadline - self._now())

    async def run(self, moves: Sequence[Move] = ()) -> Over:
        """Play the match to its end; `moves`: those that were made before the server was restarted."""
        try:
            over = await self._played(moves)
        except GameFault as fault:
            over = await self._voided(str(fault))
        except MatchEnded:
            over = Over(self.match, (), "administrator", None, True, (), ())
        return self._told(over)

    async def fail(self) -> Over:
        """End it after an error of the arena itself: it counts for no player, and all are free for another match."""
        return self._told(await self._voided("server"))

    def _told(self, over: Over) -> Over:
        self.question = None
        for seat in self.seats:
            seat.over(over)
        for watcher in tuple(self.watchers):
            watcher.over(over)
        return over

    async def _played(self, moves: Sequence[Move]) -> Over:
        legal = [move.move for move in moves if move.legal]
        self._number = len(moves)
        view = await self._host.aopen(self.match, self.game, self.seed, legal)
        try:
            while view.to_move is not None:
                view = await self._turn(view)
        except _Forfeit as forfeit:
            return await self._ended(view, _forfeited(view, forfeit.seat), forfeit.ending, forfeit.seat)
        assert view.returns is not None
        return await self._ended(view, view.returns, "finished", None)

    async def _turn(self, view: View) -> View:
        """Ask the player to move until its move is legal; the match as it stands then."""
        assert view.to_move is not None
        mover, deadline, illegal = self.seats[view.to_move], self._now() + self._clock_s, 0
        for number, seat in enumerate(self.seats):
            seat.shown(Question(self.match, self._number, number, view, self._clock_s))
        while True:
            left_s, self.deadline = deadline - self._now(), deadline
            self.question = Question(self.match, self._number, view.to_move, view, left_s)
            for watcher in tuple(self.watchers):
                watcher.shown(self)
            try:
                said = await asyncio.wait_for(mover.choose(self.question), left_s)
            except TimeoutError:
                raise _Forfeit(view.to_move, "timeout") from None
            except Left:
                raise _Forfeit(view.to_move, "left") from None
            try:
                after = await self._host.aplay(self.match, said.move)
            except IllegalMove as reason:
                await self._keep(view.to_move, said, False)
                illegal += 1
                mover.refused(self.question, str(reason))
                if illegal >= MAX_ILLEGAL and not mover.patient:
                    raise _Forfeit(view.to_move, "illegal") from None
            else:
                await self._keep(view.to_move, said, True)
                return after

    async def _keep(self, seat: int, said: Said, legal: bool) -> None:
        # Before anybody is told of it: what was shown must be there after a kill.
        move = Move(seat, said.move, said.said, legal)
        await self._store.later(match_log.add_move, self.match, self._number, move, said.tokens)
        self._number += 1

    async def _ended(self, view: View, returns: Sequence[float], ending: Ending, offender: int | None) -> Over:
        changes = await self._kept(self._store.later(match_log.finish_match, self.match, returns, ending, offender))
        return Over(self.match, tuple(returns), ending, offender, False, tuple(changes), view.observations)

    async def _voided(self, cause: str) -> Over:
        await self._kept(self._store.later(match_log.void_match, self.match, cause))
        return Over(self.match, (), cause, None, True, (), ())

    async def _kept(self, write: Awaitable[T]) -> T:
        """Wait for the end of the match to be written; the players are told where that takes long."""
        written = asyncio.ensure_future(write)
        if not (await asyncio.wait([written], timeout=PENDING_S))[0]:
            for seat in self.seats:
                seat.pending(self.match)
        return await written


def _forfeited(view: View, offender: int) -> list[float]:
    """The offender gets the game's worst return; the others share the opposite, and are better off than it whatever
    that is."""
    num_others = len(view.observations) - 1
    others = max(-view.worst_return / max(1, num_others), view.worst_return + 1.0)
    return [view.worst_return if seat == offender else others for seat in range(num_others + 1)]


def told(over: Over, seat: int) -> Mapping[str, Any]:
    """The end of a match as a message to one of its players; nothing of what other seats saw is in it."""
    return {
        "kind": "over",
        "match": over.match,
        "outcome": over.outcome(seat),
        "returns": list(over.returns),
        "ending": over.ending,
        "offender": over.offender,
        "observation": over.observations[seat] if over.observations else "",
        "ratings": [
            {
                "game": change.game,
                "before": [change.before.mu, change.before.sigma],
                "after": [change.after.mu, change.after.sigma],
            }
            for change in over.changes
            if change.seat == seat
        ],
    }
