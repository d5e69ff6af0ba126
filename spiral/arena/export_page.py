"""The address at which a running arena gives the matches that ended as examples."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spiral.arena.addressed import known_game
from spiral.arena.export import PAGE, Changed, Wanted, examples_of
from spiral.arena.lobby import Lobby
from spiral.arena.records import OVERALL
from spiral.arena.reply_tokens import read_tokens
from spiral.selfplay.examples import line_of


def export_route(lobby: Lobby) -> Route:
    """GET /api/export?game=G&player=NAME&after=N&limit=N: JSON lines; the header x-next is the next `after`."""

    async def export(request: Request) -> Response:
        game = known_game(lobby, request.query_params.get("game", OVERALL))
        after, wanted = _number(request, "after", 0), Wanted(player=request.query_params.get("player"))
        found = await asyncio.to_thread(lobby.store.ended, after, min(_number(request, "limit", PAGE), PAGE), game)
        lines = []
        for place, match in found:
            after = place
            with contextlib.suppress(Changed):  # such as of a game that was updated meanwhile
                if match.game in lobby.games:
                    tokens = await asyncio.to_thread(read_tokens, lobby.store.database, match.id)
                    lines += await asyncio.to_thread(examples_of, match, lobby.host, wanted, tokens)
        text = b"".join(map(line_of, lines))
        return Response(text, media_type="application/jsonl", headers={"x-next": str(after)})

    return Route("/api/export", export)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isdecimal() and text.isascii() and len(text) < 16):
        raise HTTPException(400, f"{name} is a whole number of 0 or more")
    return int(text)
