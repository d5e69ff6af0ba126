"""The arena's own protocol: JSON messages over a WebSocket, the same for the page and for programs.

A client says {"kind": "hello", "token": ...} first. Then it may send {"kind": "queue", "games": [...]}, {"kind":
"unqueue"}, {"kind": "move", "number": n, "move": text} and {"kind": "leave"}. It is sent `welcome`, `queued`, `match`,
`state` (the match while another player is asked), `turn` (it is asked), `illegal`, `over` and `error`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from spiral.api.errors import SpiralError
from spiral.arena.connections import Member, Outbox
from spiral.arena.lobby import Lobby

MAX_MESSAGE = 20_000
"""Characters of a message, about twice the longest sensible move with its thoughts."""
HELLO_S = 10.0
"""How long a connection may take to say who it is."""


async def play(socket: WebSocket, lobby: Lobby) -> None:
    """Serve one connection until it closes."""
    await socket.accept()
    try:
        hello = await asyncio.wait_for(_received(socket), HELLO_S)
        token = hello.get("token") if hello.get("kind") == "hello" else None
        player = await asyncio.to_thread(lobby.store.player_by_token, token) if isinstance(token, str) else None
        if player is None:
            await socket.send_json({"kind": "error", "reason": "no player has this token; register, and say hello"})
            await socket.close(4401)
            return
    except (TimeoutError, WebSocketDisconnect, SpiralError):
        return
    member = lobby.member(player)
    outbox = member.connect()
    outbox.send({"kind": "welcome", "name": player.name, "in_match": member.seat is not None})
    writer = asyncio.create_task(_write(socket, outbox))
    try:
        while True:
            try:
                await _handle(await _received(socket), member, lobby)
            except SpiralError as error:
                outbox.send({"kind": "error", "reason": str(error)})
    except WebSocketDisconnect:
        pass
    finally:
        member.disconnect(outbox)
        if member.outbox is None:
            lobby.queue.leave(player.id)
        writer.cancel()


async def _handle(message: dict[str, Any], member: Member, lobby: Lobby) -> None:
    kind, seat = message.get("kind"), member.seat
    if kind == "queue":
        games = message.get("games")
        if not isinstance(games, list) or not all(isinstance(game, str) for game in games):
            raise SpiralError('say which games: {"kind": "queue", "games": ["..."]}')
        await lobby.wait(member, games)
        member.send({"kind": "queued", "games": games, "waiting": len(lobby.queue)})
    elif kind == "unqueue":
        lobby.queue.leave(member.player.id)
        member.send({"kind": "unqueued"})
    elif kind == "move":
        number, move = message.get("number"), message.get("move")
        if not isinstance(number, int) or not isinstance(move, str):
            raise SpiralError('a move is {"kind": "move", "number": N, "move": "..."}, N as in the turn that was asked')
        said = message.get("said")
        if seat is None or not seat.move(number, move, said if isinstance(said, str) else ""):
            raise SpiralError("this turn is not yours, or is answered already; wait for the next one")
    elif kind == "leave":
        if seat is not None:
            seat.leave()
    elif kind != "ping":
        raise SpiralError(f"unknown message {str(kind)[:40]!r}; there are queue, unqueue, move, leave and ping")


async def _received(socket: WebSocket) -> dict[str, Any]:
    text = await socket.receive_text()
    if len(text) > MAX_MESSAGE:
        raise SpiralError(f"a message has {len(text):,} characters, and {MAX_MESSAGE:,} are taken; shorten it")
    try:
        message = json.loads(text)
    except ValueError as error:
        raise SpiralError(f"a message is no JSON ({error})") from error
    if not isinstance(message, dict):
        raise SpiralError("a message is a JSON object with a kind")
    return message


async def _write(socket: WebSocket, outbox: Outbox) -> None:
    while (message := await outbox.next()) is not None:
        await socket.send_json(message)
    await socket.close(4408, outbox.closed_for)
