"""People and models behind a connection: what they are sent, and what they answer. Knows messages and no sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from spiral.arena.records import Player
from spiral.arena.room import Left, Over, Question, Said, told

Message = Mapping[str, Any]

MAX_UNREAD = 32
"""Messages that a connection may leave unread; it is closed then, and the others are not slowed."""


class Outbox:
    """Messages to one connection, in order. Never waits: a reader that stalls costs itself its connection."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self.closed_for = ""
        """Why it was closed; empty while it is open."""
        self.closed = asyncio.Event()

    def send(self, message: Message) -> None:
        """Queue a message, unless it is closed."""
        if self.closed_for:
            return
        if self._messages.qsize() >= MAX_UNREAD:
            self.close("too slow")
        else:
            self._messages.put_nowait(message)

    def close(self, reason: str) -> None:
        """No more messages; those that wait are dropped."""
        if self.closed_for:
            return
        self.closed_for = reason
        self.closed.set()
        while not self._messages.empty():
            self._messages.get_nowait()
        self._messages.put_nowait(None)

    async def next(self) -> Message | None:
        """The next message; None once it is closed."""
        return await self._messages.get()


class Member:
    """A player that is or was connected: one connection at most, and one match at most."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.outbox: Outbox | None = None
        self.seat: RemoteSeat | None = None
        self.last_opponents: frozenset[int] = frozenset()

    def connect(self) -> Outbox:
        """A new connection, which takes the place of an older one; it is told how the match stands."""
        if self.outbox is not None:
            self.outbox.close("connected elsewhere")
        self.outbox = Outbox()
        if self.seat is not None:
            self.seat.tell_again()
        return self.outbox

    def disconnect(self, outbox: Outbox) -> None:
        """A connection is gone; the match goes on, and its clock too."""
        outbox.close("gone")
        if self.outbox is outbox:
            self.outbox = None

    def send(self, message: Message) -> None:
        """To the connection, if there is one."""
        if self.outbox is not None:
            self.outbox.send(message)


class RemoteSeat:
    """A player behind a connection in one match."""

    def __init__(self, member: Member, begun: Message) -> None:
        """`begun`: what it is told of the match first."""
        self.player = member.player
        self.patient = member.player.kind in ("person", "guest")
        self._member, self._begun = member, begun
        self._answer: asyncio.Future[Said] | None = None
        self._asked: Question | None = None
        self._asked_until = 0.0
        self._state: Message | None = None
        self._leaving = False
        member.seat = self
        member.send(begun)

    async def choose(self, question: Question) -> Said:
        """The move that its connection sends."""
        if self._leaving:
            raise Left
        self._asked, self._answer = question, asyncio.get_running_loop().create_future()
        self._asked_until = time.monotonic() + question.clock_s
        self._member.send(self._asking(question))
        try:
            return await self._answer
        finally:
            self._asked = self._answer = None

    def refused(self, question: Question, reason: str) -> None:
        """Its move was illegal."""
        self._member.send({"kind": "illegal", "match": question.match, "number": question.number, "reason": reason})

    def shown(self, question: Question) -> None:
        """The match as this player sees it."""
        self._state = {
            "kind": "state",
            "match": question.match,
            "number": question.number,
            "to_move": question.view.to_move,
            "observation": question.observation,
            "clock_s": question.clock_s,
        }
        if question.view.to_move != question.seat:
            self._member.send(self._state)

    def pending(self, match: int) -> None:
        """The end of its match is not written yet."""
        self._state = {"kind": "pending", "match": match}
        self._member.send(self._state)

    def over(self, over: Over) -> None:
        """The match ended, and the player is free for another one."""
        if self._member.seat is self:
            self._member.seat = None
        self._member.send(told(over, self.seat))

    @property
    def match(self) -> int:
        """Its number."""
        return int(self._begun["match"])

    @property
    def seat(self) -> int:
        """Of this player, counted from 0."""
        return int(self._begun["seat"])

    @property
    def standing(self) -> tuple[int, int, bool] | None:
        """Match, turn and whether this player is asked, as its connection was told last; None before the first turn and
        while the end of the match is not written yet. A page that has heard otherwise has missed a message."""
        if self._asked is not None:
            return self.match, self._asked.number, True
        if self._state is None or self._state["kind"] == "pending":
            return None
        return self.match, int(self._state["number"]), False

    def tell_again(self) -> None:
        """To a new connection: the match, how it stands, and what is asked."""
        self._member.send(self._begun)
        if self._asked is not None:
            self._member.send(self._asking(self._asked))
        elif self._state is not None:
            self._member.send(self._state)

    def move(self, number: int, move: str, said: str = "") -> bool:
        """Answer the question `number`; False if that is not what is asked now."""
        if self._asked is None or self._answer is None or self._answer.done() or number != self._asked.number:
            return False
        self._answer.set_result(Said(move, said))
        return True

    def leave(self) -> None:
        """Give the match up, now or when it is this player's turn."""
        self._leaving = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Left())

    def _asking(self, question: Question) -> Message:
        legal: Sequence[str] | None = question.view.legal_moves
        return {
            "kind": "turn",
            "match": question.match,
            "number": question.number,
            "observation": question.observation,
            "legal_moves": None if legal is None else list(legal),
            "clock_s": max(0.0, self._asked_until - time.monotonic()),
        }
