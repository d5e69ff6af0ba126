"""The arena's pages, its HTTP interface and its sockets, as one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from spiral.api.errors import SpiralError
from spiral.arena import sockets, textarena_client
from spiral.arena.addressed import ended_match, known_game, known_skill
from spiral.arena.database import NoAnswer
from spiral.arena.export_page import export_route
from spiral.arena.guard import Guard
from spiral.arena.limits import Counters, Limits
from spiral.arena.listening import GAME_PATH
from spiral.arena.lobby import Lobby
from spiral.arena.names import checked_name
from spiral.arena.records import OVERALL, Kind, Standing
from spiral.arena.reply_tokens import as_json, read_tokens
from spiral.arena.run_pages import run_routes
from spiral.arena.site import NAV, Site
from spiral.arena.skills import Skills, SkillStanding
from spiral.arena.textarena_sockets import GameAddress, TextArenaSockets, nowhere

MAX_BODY = 10_000
"""Bytes of a request's body."""
RUNS_AT = "/runs"
"""The address of the table of runs."""
BODY_S = 10.0
"""How long a request may take to arrive."""


def application(
    lobby: Lobby, limits: Limits | None = None, games_at: GameAddress = nowhere, runs: Path | None = None
) -> Starlette:
    """The arena. Its matches run while the application does. `games_at`: where TextArena's client is sent to. `runs`: a
    run, or a folder of runs, whose pages are among the arena's. Raises RunError for a folder that is not there."""
    nav = NAV if runs is None else (*NAV, ("Runs", RUNS_AT))
    limits = limits or Limits()
    skills = Skills(lobby.store, list(lobby.games.values()))
    api = Api(lobby, limits, skills)
    routes = [
        *Site(lobby, skills, nav).routes(),
        *(() if runs is None else run_routes(runs, RUNS_AT, nav)),
        Route("/api/games", api.games),
        Route("/api/players", api.register, methods=["POST"]),
        Route("/api/leaderboard", api.leaderboard),
        Route("/api/matches/{match:int}", api.match),
        export_route(lobby),
        WebSocketRoute("/api/play", api.socket),
        Route("/register_model", api.register_model, methods=["POST"]),
        Route("/register_mgc_model", api.register_model, methods=["POST"]),
        WebSocketRoute(GAME_PATH, TextArenaSockets(lobby, limits, games_at).serve),
    ]

    @contextlib.asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(lobby.run())
        yield
        task.cancel()

    async def refused(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", 503)

    guard = [Middleware(Guard, limits)]
    return Starlette(routes=routes, middleware=guard, lifespan=running, exception_handlers={NoAnswer: refused})


def game_sockets(lobby: Lobby, limits: Limits | None = None) -> Starlette:
    """What answers at the port of TextArena's client, in the same event loop as the application."""
    limits = limits or Limits()
    routes = [WebSocketRoute(GAME_PATH, TextArenaSockets(lobby, limits, nowhere).serve)]
    return Starlette(routes=routes, middleware=[Middleware(Guard, limits)])


class Api:
    """What each address of the interface answers."""

    def __init__(self, lobby: Lobby, limits: Limits, skills: Skills) -> None:
        self._lobby, self._store, self._limits, self._skills = lobby, lobby.store, limits, skills
        self._histories = Counters(limits.histories)

    async def games(self, request: Request) -> Response:
        """Label, number of players, rules and skills of each game."""
        return JSONResponse([
            {"name": g.name, "num_players": g.num_players, "rules": g.rules, "skills": dict(g.skills)}
            for g in self._lobby.games.values()
        ])  # fmt: skip

    async def register(self, request: Request) -> Response:
        """A new player, and the token that is told this once."""
        told = await _json(request)
        kind, name, description = told.get("kind", "model"), told.get("name"), str(told.get("description", ""))[:500]
        if kind not in ("person", "guest", "model"):
            raise HTTPException(400, "kind is person, guest or model")
        if kind == "guest":
            name = f"Guest {secrets.token_hex(4)}"
        try:
            name = checked_name(name)
        except SpiralError as error:
            raise HTTPException(400, str(error)) from error
        chosen: Kind = kind
        try:
            player, token = await asyncio.to_thread(self._store.add_player, name, chosen, description)
        except SpiralError as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse({"name": player.name, "token": token})

    async def register_model(self, request: Request) -> Response:
        """A player of TextArena's client, whose token that client made."""
        status, answer = await asyncio.to_thread(textarena_client.register, self._store, await _json(request))
        return JSONResponse(answer, status)

    async def leaderboard(self, request: Request) -> Response:
        """Of a game, by a skill, or over all games."""
        if (asked := request.query_params.get("skill")) is not None:
            skill = known_skill(self._skills, asked)
            found = await asyncio.to_thread(self._skills.leaderboard, skill)
            return JSONResponse([_standing(one) | {"games": one.games} for one in found])
        game = known_game(self._lobby, request.query_params.get("game", OVERALL))
        board = await asyncio.to_thread(self._store.leaderboard, game)
        return JSONResponse([_standing(one) for one in board])

    async def match(self, request: Request) -> Response:
        """A match that ended."""
        match = await ended_match(self._store, request)
        tokens = await asyncio.to_thread(read_tokens, self._store.database, match.id)
        return JSONResponse({
            "match": match.id, "game": match.game, "seed": match.seed, "ending": match.ending,
            "returns": match.returns, "players": [one.name for one in match.players],
            "moves": [
                {"seat": m.seat, "move": m.move, "said": m.said, "legal": m.legal, "reply": as_json(tokens.get(number))}
                for number, m in enumerate(match.moves)
            ],
        })  # fmt: skip

    async def socket(self, socket: WebSocket) -> None:
        """A person's or a program's connection."""
        await sockets.play(socket, self._lobby, self._limits, self._histories)


def _standing(one: Standing | SkillStanding) -> dict[str, Any]:
    rating = one.rating
    return {
        "name": one.player.name, "kind": one.player.kind, "mu": rating.mu, "sigma": rating.sigma, "low": rating.low,
        "matches": one.matches,
    }  # fmt: skip


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = await asyncio.wait_for(_body(request), BODY_S)
    except TimeoutError as error:
        raise HTTPException(408, f"a request is sent within {BODY_S:g} s") from error
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the request is no JSON ({error})") from error
    if not isinstance(told, dict):
        raise HTTPException(400, "the request is a JSON object")
    return told


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a request has at most {MAX_BODY:,} bytes")
    return body
