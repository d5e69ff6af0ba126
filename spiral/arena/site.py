"""The arena's pages, rendered on the server. What they show of a match in play is what spectators may know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.websockets import WebSocket

from spiral.api.answers import thoughts_before
from spiral.api.errors import SpiralError
from spiral.api.text import printable
from spiral.arena.addressed import ended_match, known_game, known_skill
from spiral.arena.game_process import GameFault
from spiral.arena.history import PROVISIONAL, History
from spiral.arena.lobby import GameInfo, Lobby
from spiral.arena.records import OVERALL, Move, StoredMatch
from spiral.arena.replay import Replay, replayed
from spiral.arena.reply_tokens import kept, read_tokens
from spiral.arena.skills import Skills
from spiral.arena.watching import public, watch

PAGES = Path(__file__).with_name("pages")
NAV = (("Arena", "/"), ("Play", "/play"), ("Matches", "/matches"), ("Leaderboard", "/leaderboard"))
"""Name and address of the pages that all others lead to."""
MANY = 16
"""Games beyond which a list of them is folded."""
SAMPLE_SEED = 0
SAMPLE_MOVES = 12
"""Turns of the sample match on a game's page."""
MAX_SHOWN = 60
"""Legal moves that a game's page lists."""
MAX_REPLAYS = 64
"""Replays that are kept."""


@dataclass(frozen=True)
class Sample:
    """A match as a game's page shows it."""

    match: int | None
    """Its number; None where it was made up of random moves."""
    players: tuple[str, ...]
    replay: Replay
    whole: bool


_Shown = tuple[tuple[str, ...] | None, Sample | None]


class Site:
    """What each page shows."""

    def __init__(self, lobby: Lobby, skills: Skills, nav: Sequence[tuple[str, str]] = NAV) -> None:
        """`nav`: name and address of the pages that each page leads to."""
        self._skills = skills
        self._lobby, self._store, self._history = lobby, lobby.store, History(lobby.store)
        self._replays: dict[int, Replay | None] = {}
        self._samples: dict[str, tuple[int | None, _Shown]] = {}
        self._templates = Jinja2Templates(directory=PAGES)
        self._templates.env.filters["text"] = printable
        self._templates.env.filters["thought"] = thoughts_before
        self._templates.env.globals.update(PROVISIONAL=PROVISIONAL, MANY=MANY, nav=nav)

    def routes(self) -> list[BaseRoute]:
        """All pages, what they load, and the socket of spectators."""
        return [
            Route("/", self.home),
            Route("/play", self.play),
            Route("/leaderboard", self.leaderboard),
            Route("/games/{game:path}", self.game),
            Route("/players/{name:path}", self.player),
            Route("/matches", self.matches),
            Route("/matches/{match:int}", self.match),
            Route("/matches/{match:int}/tokens/{number:int}", self.tokens),
            WebSocketRoute("/api/watch/{match:int}", self.watch),
            Mount("/static", StaticFiles(directory=PAGES / "static")),
        ]

    async def home(self, request: Request) -> Response:
        """The games, the matches in play, and who leads."""
        board = await asyncio.to_thread(self._store.leaderboard, OVERALL, 10)
        return self._page(request, "home.html", standings=board, playing=self._playing(6))

    async def play(self, request: Request) -> Response:
        """The page on which a person plays."""
        return self._page(request, "play.html")

    async def leaderboard(self, request: Request) -> Response:
        """Of a game, by a skill, or over all games."""
        if (asked := request.query_params.get("skill")) is not None:
            skill = known_skill(self._skills, asked)
            found = await asyncio.to_thread(self._skills.leaderboard, skill)
            return self._page(request, "leaderboard.html", game=None, skill=skill, standings=found)
        game = known_game(self._lobby, request.query_params.get("game", OVERALL))
        board = await asyncio.to_thread(self._store.leaderboard, game)
        return self._page(request, "leaderboard.html", game=game, skill=None, standings=board)

    async def game(self, request: Request) -> Response:
        """Rules, how moves are said, a match of it, and who is best at it."""
        game = known_game(self._lobby, request.path_params["game"])
        board = await asyncio.to_thread(self._store.leaderboard, game, 10)
        opening, sample = await self._shown_of(game)
        recent = await asyncio.to_thread(self._history.recent, game, None, 5)
        return self._page(
            request, "game.html", game=self._lobby.games[game], standings=board, opening=opening, sample=sample,
            recent=recent, max_shown=MAX_SHOWN,
        )  # fmt: skip

    async def player(self, request: Request) -> Response:
        """Ratings, results by opponent, and the last matches."""
        player = await asyncio.to_thread(self._store.player_by_name, request.path_params["name"])
        if player is None:
            raise HTTPException(404, "there is no player of this name")
        ratings = await asyncio.to_thread(self._history.ratings, player)
        results = await asyncio.to_thread(self._history.results, player)
        recent = await asyncio.to_thread(self._history.recent, None, player)
        skilled = await asyncio.to_thread(self._skills.of, player)
        return self._page(
            request, "player.html", player=player, ratings=ratings, results=results, recent=recent, skilled=skilled
        )

    async def matches(self, request: Request) -> Response:
        """Those in play, and those that ended last."""
        recent = await asyncio.to_thread(self._history.recent, None, None, 50)
        return self._page(request, "matches.html", playing=self._playing(200), recent=recent)

    async def match(self, request: Request) -> Response:
        """A match in play as spectators may see it, or the replay of one that ended."""
        number = request.path_params["match"]
        if (room := self._lobby.rooms.get(number)) is not None:
            return self._page(request, "live.html", match=public(room))
        match = await ended_match(self._store, request)
        tokens = await asyncio.to_thread(kept, self._store.database, match.id)
        return self._page(request, "match.html", match=match, replay=await self._replay(match), tokens=tokens)

    async def tokens(self, request: Request) -> Response:
        """The tokens of one reply of a match that ended, with their probabilities."""
        match, number = await ended_match(self._store, request), request.path_params["number"]
        found = await asyncio.to_thread(read_tokens, self._store.database, match.id, min(number, len(match.moves)))
        if number not in found:
            raise HTTPException(404, "no tokens were kept of this turn")
        player = match.players[match.moves[number].seat]
        return self._page(request, "tokens.html", match=match, number=number, player=player, tokens=found[number])

    async def watch(self, socket: WebSocket) -> None:
        """A spectator's connection."""
        await watch(socket, self._lobby)

    def _playing(self, limit: int) -> list[Any]:
        newest = sorted(self._lobby.rooms, reverse=True)[:limit]
        return [public(self._lobby.rooms[number]) for number in newest]

    async def _replay(self, match: StoredMatch) -> Replay | None:
        """None where the game is not here any more, or plays otherwise than it did."""
        if match.id not in self._replays:
            if match.game not in self._lobby.games:
                return None
            try:
                found = await asyncio.to_thread(replayed, self._lobby.host, match.game, match.seed, match.moves)
            except GameFault:
                found = None
            while len(self._replays) >= MAX_REPLAYS:
                self._replays.pop(next(iter(self._replays)))
            self._replays[match.id] = found
        return self._replays[match.id]

    async def _shown_of(self, game: str) -> _Shown:
        """The legal moves of a first turn, None where they are free text, and a match of the game."""
        latest = await asyncio.to_thread(self._history.latest, game)
        of, shown = self._samples.get(game, (None, None))
        if shown is None or (of is None and latest is not None):
            # The first that was finished stays: a page must not play a match again on every visit.
            shown = await asyncio.to_thread(self._sampled, game, latest)
            self._samples[game] = latest, shown
        return shown

    def _sampled(self, game: str, latest: int | None) -> _Shown:
        host = self._lobby.host
        try:
            (first,) = host.replay(game, SAMPLE_SEED, ())
            match = None if latest is None else self._store.match(latest)
            if match is not None:
                shown = match.moves[:SAMPLE_MOVES]
                names = tuple(player.name for player in match.players)
                replay = replayed(host, game, match.seed, shown)
                return first.legal_moves, Sample(match.id, names, replay, len(shown) == len(match.moves))
            words, moves = host.sample(game, SAMPLE_SEED, SAMPLE_MOVES), list[Move]()
            for view, word in zip(host.replay(game, SAMPLE_SEED, words), words, strict=False):
                moves.append(Move(view.to_move or 0, word, "", True))
            names = tuple(f"Player {seat}" for seat in range(len(first.observations)))
            replay = replayed(host, game, SAMPLE_SEED, moves)
            return first.legal_moves, Sample(None, names, replay, len(moves) < SAMPLE_MOVES) if moves else None
        except (GameFault, SpiralError):
            return None, None

    def _page(self, request: Request, name: str, **values: Any) -> Response:
        games: list[GameInfo] = list(self._lobby.games.values())
        return self._templates.TemplateResponse(
            request, name, {"games": games, "skills": self._skills.games, "here": request.url.path, **values}
        )
