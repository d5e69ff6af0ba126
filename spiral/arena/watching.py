"""Spectators: what may leave the server of a match in play.

Of a game in which nothing is hidden that is what the player to move sees; of any other only who is to move, and how
many moves were made, since a spectator could be one of the players.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocket

from spiral.arena.connections import Outbox
from spiral.arena.lobby import Lobby
from spiral.arena.room import Over, Room
from spiral.arena.sockets import write

MAX_WATCHERS = 200
"""Of one match."""
BEAT_S = 1.0
"""Between two signs of life: a page that misses a few says that it is not connected."""
NOT_IN_PLAY, FULL = 4404, 4429
"""Codes with which a connection is closed at once."""


def public(room: Room) -> Mapping[str, Any]:
    """What a spectator may know of a match in play."""
    question = room.question
    shown = question is not None and question.view.perfect_information
    return {
        "kind": "state",
        "match": room.match,
        "game": room.game,
        "players": [seat.player.name for seat in room.seats],
        "number": 0 if question is None else question.number,
        "to_move": None if question is None else question.seat,
        "observation": question.observation if question is not None and shown else None,
        "clock_s": room.left_s,
    }


class Spectator:
    """A connection that follows one match."""

    def __init__(self) -> None:
        self.outbox = Outbox()

    def shown(self, room: Room) -> None:
        """A player is asked."""
        self.outbox.send(public(room))

    def over(self, over: Over) -> None:
        """The match ended; its replay holds the rest."""
        self.outbox.send({"kind": "over", "match": over.match, "returns": list(over.returns), "ending": over.ending})


async def watch(socket: WebSocket, lobby: Lobby) -> None:
    """Serve one spectator until the match ends or it goes. What it sends is not read."""
    room = lobby.rooms.get(int(socket.path_params["match"]))
    await socket.accept()
    if room is None or len(room.watchers) >= MAX_WATCHERS:
        reason = "this match is not in play" if room is None else f"{MAX_WATCHERS} watch already; try again later"
        await socket.send_json({"kind": "error", "reason": reason})
        await socket.close(NOT_IN_PLAY if room is None else FULL)
        return
    spectator = Spectator()
    room.watchers.add(spectator)
    spectator.shown(room)
    # A spectator that stalls holds its writer up, so the end of its outbox is waited for too.
    outbox = spectator.outbox
    work = (write(socket, outbox, last="over"), _gone(socket), outbox.closed.wait(), _beat(outbox))
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        room.watchers.discard(spectator)
        for task in tasks:
            task.cancel()


async def _beat(outbox: Outbox) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        outbox.send({"kind": "beat"})


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
