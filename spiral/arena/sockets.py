"""The arena's own protocol: JSON messages over a WebSocket, the same for the page and for programs.

A client says {"kind": "hello", "token": ...} first. Then it may send {"kind": "queue", "games": [...]}, {"kind":
"unqueue"}, {"kind": "move", "number": n, "move": text} and {"kind": "leave"}. It is sent `welcome`, `queued`, `match`,
`state` (the match while another player is asked), `turn` (it is asked), `illegal`, `pending` (the match is over,
and its end is not written yet), `over` and `error`. {"kind": "ping"} is answered by `pong` with match, turn and whether
it is asked; a client that has heard otherwise sends {"kind": "again"} to be told how its match stands, and {"kind":
"history"} for what its seat saw and moved so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from spiral.api.errors import SpiralError
from spiral.arena.connections import Member, Outbox, RemoteSeat
from spiral.arena.database import NoAnswer, storable
from spiral.arena.limits import Bucket, Counters, Limits
from spiral.arena.lobby import Lobby

MAX_MESSAGE = 20_000
"""Characters of a message, about twice the longest sensible move with its thoughts."""
FAREWELL_S = 1.0
"""How long a connection that is closed may take to read why."""
SERVER_ENDS = 1012
"""The code with which uvicorn closes its connections when it ends."""
TRY_AGAIN = 1013
"""The code with which one is closed that nothing can be done for while the database is away: it comes again."""
KINDS = ("queue", "unqueue", "move", "leave", "again", "history", "ping")
HELLO_S = 10.0
"""How long a connection may take to say who it is."""


async def play(socket: WebSocket, lobby: Lobby, limits: Limits, histories: Counters) -> None:
    """Serve one connection until it closes. `histories`: counts by player, over all of its connections."""
    await socket.accept()
    try:
        hello = await asyncio.wait_for(received(socket), HELLO_S)
        token = hello.get("token") if hello.get("kind") == "hello" else None
        player = await asyncio.to_thread(lobby.store.player_by_token, token) if isinstance(token, str) else None
        if player is None:
            await socket.send_json({"kind": "error", "reason": "no player has this token; register, and say hello"})
            await socket.close(4401)
            return
    except NoAnswer as error:
        await socket.close(TRY_AGAIN, str(error))
        return
    except SpiralError as error:
        await socket.send_json({"kind": "error", "reason": str(error)})
        return
    except (TimeoutError, WebSocketDisconnect):
        return
    member = lobby.member(player)
    outbox = member.connect()
    outbox.send({"kind": "welcome", "name": player.name, "in_match": member.seat is not None})
    tasks = [
        asyncio.create_task(work)
        for work in (
            _read(socket, member, outbox, lobby, limits, histories),
            write(socket, outbox),
            outbox.closed.wait(),
        )
    ]
    restarts = False
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # One that was closed is told why; one that reads nothing is not waited for longer than this.
        await asyncio.wait(tasks[1:2], timeout=FAREWELL_S if outbox.closed.is_set() else 0)
        restarts = tasks[0].done() and not tasks[0].cancelled() and tasks[0].result() == SERVER_ENDS
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await lobby.disconnected(member, outbox, comes_back=restarts)


async def _read(
    socket: WebSocket, member: Member, outbox: Outbox, lobby: Lobby, limits: Limits, histories: Counters
) -> int:
    """Handle messages until the connection closes; the code with which it did."""
    pace = Bucket(limits.messages)
    try:
        if games := await lobby.wait_again(member):
            outbox.send({"kind": "queued", "games": games, "waiting": len(lobby.queue)})
        while True:
            # Not read, and so not kept either: the sender's own network holds back what it sends too fast.
            await asyncio.sleep(pace.take())
            try:
                await _handle(await received(socket), member, lobby, histories)
            except SpiralError as error:
                if isinstance(error, NoAnswer) and member.seat is None:
                    raise
                outbox.send({"kind": "error", "reason": str(error)})
    except NoAnswer as error:
        await socket.close(TRY_AGAIN, str(error))
        return TRY_AGAIN
    except WebSocketDisconnect as gone:
        return gone.code


async def _handle(message: dict[str, Any], member: Member, lobby: Lobby, histories: Counters) -> None:
    kind, seat = message.get("kind"), member.seat
    if kind == "queue":
        games = message.get("games")
        if not isinstance(games, list) or not all(isinstance(game, str) for game in games):
            raise SpiralError('say which games: {"kind": "queue", "games": ["..."]}')
        await lobby.wait(member, games)
        member.send({"kind": "queued", "games": games, "waiting": len(lobby.queue)})
    elif kind == "unqueue":
        await lobby.unqueue(member)
        member.send({"kind": "unqueued"})
    elif kind == "move":
        _move(message, seat)
    elif kind == "leave":
        if seat is not None:
            seat.leave()
    elif kind == "ping":
        member.send({"kind": "pong", "standing": None if seat is None else seat.standing})
    elif kind not in ("again", "history"):
        raise SpiralError(f"unknown message {str(kind)[:40]!r}; there are {', '.join(KINDS)}")
    elif seat is not None:
        if kind == "again":
            seat.tell_again()
        else:
            if wait_s := histories.too_early_s(str(member.player.id)):
                raise SpiralError(f"you ask for the history too often; wait {math.ceil(wait_s)} s")
            member.send(await lobby.past(seat))


def _move(message: dict[str, Any], seat: RemoteSeat | None) -> None:
    number, move = message.get("number"), message.get("move")
    if not isinstance(number, int) or not isinstance(move, str):
        raise SpiralError('a move is {"kind": "move", "number": N, "move": "..."}, N as in the turn that was asked')
    said = message.get("said")
    if seat is None or not seat.move(number, storable(move), storable(said) if isinstance(said, str) else ""):
        raise SpiralError("this turn is not yours, or is answered already; wait for the next one")


async def received(socket: WebSocket) -> dict[str, Any]:
    """The next message. Raises SpiralError for one that cannot be read."""
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code", 1005), received.get("reason"))
    text = received.get("text")
    if text is None:
        raise SpiralError("a message of bytes; send JSON as text")
    if len(text) > MAX_MESSAGE:
        raise SpiralError(f"a message has {len(text):,} characters, and {MAX_MESSAGE:,} are taken; shorten it")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpiralError(f"a message is no JSON ({error})") from error
    if not isinstance(message, dict):
        raise SpiralError("a message is a JSON object with a kind")
    return message


async def write(socket: WebSocket, outbox: Outbox, last: str = "") -> None:
    """Send what is in an outbox until it is closed, or until a message of the kind `last` was sent."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it is gone, which the other half hears of
        while (message := await outbox.next()) is not None:
            await socket.send_json(message)
            if message["kind"] == last:
                break
        await socket.close(4408, outbox.closed_for)
