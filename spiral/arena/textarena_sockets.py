"""The two sockets of TextArena's own client: one on which it waits for a match, and one on which it plays it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import unicodedata
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from spiral.api.errors import SpiralError
from spiral.arena.connections import Member, Outbox
from spiral.arena.database import storable
from spiral.arena.limits import Bucket, Limits
from spiral.arena.lobby import Lobby
from spiral.arena.records import Player
from spiral.arena.sockets import HELLO_S, SERVER_ENDS, received
from spiral.arena.textarena_client import GameTalk, Message, asked_games, environment

SHUTDOWN_S = 0.3
"""Between the end of a match and the word that ends the client: it reads nothing after that, not even what came before
and waits."""
NO_MATCH: Message = {"command": "match_found", "game_url": "", "env_id": "", "environment_id": -1}
"""A match at no address. The client waits for half an hour after an error; this ends its waiting."""

GameAddress = Callable[[str], str | None]
"""The host that a client called -> host:port of the game sockets, which speak TLS; None where there are none."""


def nowhere(called: str) -> None:
    """No game sockets."""


def game_address(port: int, fixed: str = "") -> GameAddress:
    """The same host at another port, unless a fixed address is given."""

    def address(called: str) -> str:
        if fixed:
            return fixed
        host = urlsplit(f"//{called}").hostname or "127.0.0.1"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    return address


class TextArenaSockets:
    """Serves clients of TextArena; they queue and play with all other players of the arena."""

    def __init__(self, lobby: Lobby, limits: Limits, address: GameAddress) -> None:
        self._lobby, self._limits, self._address = lobby, limits, address
        self._waited: deque[float] = deque(maxlen=100)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection until it closes; the words of its address say what it is for."""
        if "token" in socket.query_params:
            await self._serve_match(socket, socket.query_params["token"])
        else:
            await self._serve_queue(socket)

    async def _serve_queue(self, socket: WebSocket) -> None:
        name, token = (socket.query_params.get(key, "") for key in ("model_name", "model_token"))
        player = await self._player(token)
        if player is None or player.name != unicodedata.normalize("NFKC", name):
            await socket.close(4401)  # before it was accepted: the client then gives up at once
            return
        await socket.accept()
        member, outbox, restarts = self._lobby.member(player), None, False
        try:
            numbers = await asyncio.wait_for(_environments(socket), HELLO_S)
            games = asked_games(numbers, self._lobby.games)
            address = self._address(socket.headers.get("host", ""))
            if address is None:
                raise SpiralError("this arena has no game sockets for TextArena's client; start it with a certificate")
            outbox = member.connect()
            if member.seat is None:
                await self._lobby.wait(member, games)
                await _send(socket, self._queued())
            writer = asyncio.create_task(self._write_queue(socket, outbox, address))
            try:
                await self._read_queue(socket, member)
            finally:
                writer.cancel()
        except SpiralError as error:
            await _send(socket, {"command": "error", "message": str(error)}, NO_MATCH)
            await socket.close()
        except TimeoutError:
            await socket.close()
        except WebSocketDisconnect as gone:
            restarts = gone.code == SERVER_ENDS
        finally:
            if outbox is not None:
                await self._lobby.disconnected(member, outbox, restarts)

    async def _read_queue(self, socket: WebSocket, member: Member) -> None:
        async for command in self._commands(socket):
            if command == "leave":
                await self._lobby.unqueue(member)
                await _send(socket, {"command": "left"})
            elif command != "ping":
                await _send(socket, {"command": "error", "message": "you are in the queue; wait, or leave"})

    async def _write_queue(self, socket: WebSocket, outbox: Outbox, address: str) -> None:
        since = time.monotonic()
        while (message := await outbox.next()) is not None:
            if message["kind"] != "match":
                continue
            name = environment(message["game"])
            if name is None:
                break
            self._waited.append(time.monotonic() - since)
            found = {"game_url": address, "env_id": name, "environment_id": message["match"]}
            await _send(socket, {"command": "match_found", **found})
            return
        why = outbox.closed_for or "you are in a match of a game that TextArena's client does not know"
        await _send(socket, {"command": "error", "message": why}, NO_MATCH)
        await socket.close()

    def _queued(self) -> Message:
        average = sum(self._waited) / len(self._waited) if self._waited else 0.0
        return {"command": "queued", "avg_queue_time": average, "num_players_in_queue": len(self._lobby.queue)}

    async def _serve_match(self, socket: WebSocket, token: str) -> None:
        player = await self._player(token)
        if player is None:
            await socket.close(4401)
            return
        await socket.accept()
        member = self._lobby.member(player)
        if member.seat is None:
            nothing = {"command": "error", "message": "your match is over, or has not begun"}
            await _send(socket, nothing, {"command": "server_shutdown"})
            await socket.close()
            return
        outbox, talk = member.connect(), GameTalk(self._lobby.messages)
        writer = asyncio.create_task(_write_match(socket, outbox, talk))
        try:
            async for message in self._messages(socket, outbox):
                _play(message, member, outbox, talk)
        except WebSocketDisconnect:
            pass
        finally:
            writer.cancel()
            await self._lobby.disconnected(member, outbox)

    async def _commands(self, socket: WebSocket) -> AsyncIterator[object]:
        pace = Bucket(self._limits.messages)
        while True:
            await asyncio.sleep(pace.take())
            yield (await received(socket)).get("command")

    async def _messages(self, socket: WebSocket, outbox: Outbox) -> AsyncIterator[dict[str, Any]]:
        pace = Bucket(self._limits.messages)
        while True:
            await asyncio.sleep(pace.take())
            try:
                yield await received(socket)
            except SpiralError as error:
                outbox.send({"kind": "unreadable", "reason": str(error)})

    async def _player(self, token: str) -> Player | None:
        return await asyncio.to_thread(self._lobby.store.player_by_token, token)


async def _environments(socket: WebSocket) -> list[object]:
    message = await received(socket)
    numbers = message.get("environments")
    if message.get("command") != "queue" or not isinstance(numbers, list):
        raise SpiralError('say which games: {"command": "queue", "environments": [35]}')
    return numbers


def _play(message: dict[str, Any], member: Member, outbox: Outbox, talk: GameTalk) -> None:
    command, action = message.get("command"), message.get("action")
    if command == "ping":
        outbox.send({"kind": "pong"})
    elif command == "action" and isinstance(action, str):
        said = storable(action)
        answer, seat = talk.answer(said), member.seat
        if answer is not None and seat is not None and seat.move(answer[0], answer[1], said):
            outbox.send({"kind": "action_ack"})
        else:
            outbox.send({"kind": "error", "reason": "it is not your turn; wait for an observation"})
    elif command != "pong":
        outbox.send({"kind": "error", "reason": "unknown message; there are action and ping"})


async def _write_match(socket: WebSocket, outbox: Outbox, talk: GameTalk) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while (message := await outbox.next()) is not None:
            await _send(socket, *await talk.told(message))
            if message["kind"] == "over":
                await asyncio.sleep(SHUTDOWN_S)
                break
        await _send(socket, {"command": "server_shutdown"})
        await socket.close(1000, outbox.closed_for)


async def _send(socket: WebSocket, *messages: Message) -> None:
    for message in messages:
        await socket.send_text(json.dumps(message))
