"""The bot `web`: people who play in a running experiment, through the arena's page, served by the training process.

The run drives its matches; here its questions meet the people who wait. No person is waited for: a match without a
taker is declined, and a move has a clock.
"""

from __future__ import annotations

import asyncio
import copy
import os
import random
import tempfile
import threading
import time
import weakref
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove, worst_return
from spiral.api.policies import Declined, SaidMove, Unavailable
from spiral.api.records import Episode
from spiral.api.skills import skills_of
from spiral.api.text import printable_logger
from spiral.arena.connections import Message, RemoteSeat
from spiral.arena.database import Database
from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import View
from spiral.arena.lobby import RETURN_S, GameInfo, Lobby
from spiral.arena.room import Left, Over, Question
from spiral.arena.run_pages import address_of
from spiral.arena.server import application
from spiral.arena.serving import address, listening, page_server
from spiral.arena.store import Store
from spiral.plugins.registry import Plugins, label
from spiral.runs.directory import RunDir

ANY_GAME = "a game of this run"
"""What people queue for where the games of the run are not known."""
OPPONENT = "the run"
"""What the page calls all other players."""
MAX_GIVEN_UP = 3
"""Matches in a row that people gave up, after which none is handed out for as long as a move may take: each costs the
run a voided match, of which a step has only so many."""
START_S = 30.0
"""What the server may take to start."""
GRACE_S = 5.0
"""How much later than the clock its answer may come."""

T = TypeVar("T")
log = printable_logger(__name__)


@dataclass
class _Place:
    """A person in a match."""

    game: Game
    seat: RemoteSeat
    match: int
    number: int = 0
    """Of the next question."""


class TrainingLobby(Lobby):
    """People who wait until the run has a match for them. Its methods may be called from any thread, while the server
    runs in one of its own."""

    def __init__(self, store: Store, clock_s: float, games: Sequence[GameInfo] = ()) -> None:
        """`games`: among which people choose; none where they are not known, and people take any."""
        # No process for games: the run's own objects are played.
        super().__init__(store, GameHost(dict, 0), games or [GameInfo(ANY_GAME, 2, "")], {}, clock_s)
        self.clock_s = clock_s
        self.started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.run_page: str | None = None
        """The address of the run's own page, which shows the matches that ended."""
        self._places: dict[tuple[int, int], _Place] = {}
        """By id() of the game, which the place keeps alive, and seat."""
        self._named: dict[int, tuple[Game, str]] = {}
        """By id() of the game, which is kept alive by it: the game's label, until its match is over."""
        self._num_matches = self._num_given_up = 0
        self._closed_until = 0.0

    async def run(self) -> None:
        """Wait for the run's questions."""
        await asyncio.to_thread(self.store.forget_waiting, time.time() - RETURN_S)
        self._loop = asyncio.get_running_loop()
        self.started.set()
        await asyncio.Event().wait()

    async def past(self, seat: RemoteSeat) -> Message:
        """Nothing: the run keeps the moves of a match in play, and no page reads them."""
        return {"kind": "history", "match": seat.match, "seen": []}

    async def messages(self, match: int, seat: int) -> None:
        """None: what the games of a run were told is the run's."""

    def call(self, awaited: Coroutine[Any, Any, T], within_s: float) -> T:
        """What a coroutine gives that runs beside the server. Raises TimeoutError, and what it raises."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result(within_s)

    def place(self, game: Game, player: int) -> _Place:
        """Who plays in a match: as before, or who has waited longest. Raises Declined if there is no person."""
        known = self._places.get((id(game), player))
        return known or self.call(self._seated(game, player, game.rules, game.num_players), GRACE_S)

    def begin(self, game: Game, name: str) -> None:
        """A match of this game may soon want people."""
        self._named[id(game)] = game, name

    def end(self, game: Game, episode: Episode | None) -> None:
        """Tell the people in a match how it ended, if any are in it."""
        self._named.pop(id(game), None)
        places = {player: place for (one, player), place in [*self._places.items()] if one == id(game)}
        if not places:
            return
        if episode is not None:
            self._num_given_up = 0
        seen = ["" for _ in range(game.num_players)]
        for player, place in places.items():
            with suppress(Exception):  # a game that fails now has been played to its end all the same
                seen[player] = game.observe(player)
            over = Over(
                match=place.match,
                returns=() if episode is None else tuple(episode.returns),
                ending="voided" if episode is None else episode.ending,
                offender=None if episode is None else episode.offender,
                voided=episode is None,
                changes=(),
                observations=tuple(seen),
            )
            self.call(self._told(place, over), GRACE_S)
            self._places.pop((id(game), player), None)

    def give_up(self, game: Game) -> None:
        """A person left, or the clock ran out: the match is void."""
        self._num_given_up += 1
        if self._num_given_up >= MAX_GIVEN_UP:
            self._num_given_up, self._closed_until = 0, time.monotonic() + self.clock_s
        self.end(game, None)

    async def _seated(self, game: Game, player: int, rules: str, num_players: int) -> _Place:
        now = time.monotonic()
        _, name = self._named.get(id(game), (game, ""))
        waiting = [one for one in self.queue.longest(now, 0.0) if name in one.ratings or name not in self.games]
        if not waiting or now < self._closed_until:
            raise Declined("no person", "no person waits for a match; let others than web play too")
        member = self._members[waiting[0].player]
        self._num_matches += 1
        begun = {
            "kind": "match", "match": self._num_matches, "game": name or type(game).__name__, "rules": rules,
            "seat": player,
            "players": [member.player.name if seat == player else OPPONENT for seat in range(num_players)],
            "clock_s": self.clock_s, "replay": self.run_page,
        }  # fmt: skip
        place = _Place(game, RemoteSeat(member, begun), self._num_matches)
        self._places[id(game), player] = place
        await self.unqueue(member)  # which has its seat by now, so that it is not queued again meanwhile
        return place

    async def _told(self, place: _Place, over: Over) -> None:
        place.seat.over(over)


class WebBot:
    """People at a page. They are asked again after an illegal move, until their clock has run out."""

    external = single = True
    max_concurrent = 64
    """People who play at once; each waits in a thread."""

    def __init__(self, port: int, clock: float, host: str) -> None:
        if not 0 <= port <= 65535:
            raise SpiralError(f"web got port={port}; it must be 0 to 65535")
        if not 0 < clock < float("inf"):
            raise SpiralError(f"web got clock={clock}; it must be more than 0 seconds")
        self._host, self._port, self._clock_s = host, port, float(clock)
        self._lock = threading.Lock()
        self._lobby: TrainingLobby | None = None

    def keep_in(self, folder: Path) -> None:
        """Serve the page, and keep in `folder` who the players are: a browser plays on as the same one after a resume.
        Raises SpiralError where the port is taken."""
        if _is_main_process():
            self._opened(folder)

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        """A legal move of a person. Raises Declined where none takes the match, Unavailable where one gave it up."""
        if not _is_main_process():
            raise Declined("no person", "people play with the run's main process")
        lobby = self._opened(None)
        place = lobby.place(game, player)
        deadline = time.monotonic() + self._clock_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            question = Question(place.match, place.number, player, _view(game, player), left_s)
            place.number += 1
            try:
                said = lobby.call(asyncio.wait_for(place.seat.choose(question), left_s), left_s + GRACE_S)
            except (TimeoutError, Left) as error:
                lobby.give_up(game)
                left = isinstance(error, Left)
                raise Unavailable("person left" if left else "clock ran out", "a person gave no move") from error
            tried = copy.deepcopy(game)  # the match itself is changed by the run alone
            try:
                tried.play(said.move)
            except IllegalMove as reason:
                lobby.call(_refused(place, question, str(reason)), GRACE_S)
                continue
            if tried.current_player() is not None:
                after = Question(place.match, place.number, player, _view(tried, player), self._clock_s)
                lobby.call(_shown(place, after), GRACE_S)
            return SaidMove(said.move, said.said) if said.said else said.move

    def match_begins(self, game: Game, name: str) -> None:
        """Which of the run's games it is, so that those are asked who chose it."""
        if _is_main_process():
            self._opened(None).begin(game, name)

    def match_over(self, game: Game, episode: Episode | None) -> None:
        """Tell who played in it."""
        if self._lobby is not None:
            self._lobby.end(game, episode)

    def _opened(self, folder: Path | None) -> TrainingLobby:
        with self._lock:
            if self._lobby is None:
                self._lobby = self._serve(folder or Path(tempfile.mkdtemp(prefix="spiral-web-")))
            return self._lobby

    def _serve(self, folder: Path) -> TrainingLobby:
        bound = listening(self._host, self._port, "give another to the bot: web:port=N")
        folder.mkdir(parents=True, exist_ok=True)
        database = Database(f"sqlite:///{folder / 'web.db'}")
        store = Store(database)
        run = folder.parent if (folder.parent / "config.yaml").is_file() else None
        lobby = TrainingLobby(store, self._clock_s, [] if run is None else _games_of(run))
        if run is not None:
            lobby.run_page = address_of(run.resolve().name)
        serving = page_server(application(lobby, runs=run))
        thread = threading.Thread(target=serving.run, args=([bound],), name="bot web", daemon=True)
        thread.start()
        # Where several runs are trained in one process, the next one finds the port free.
        weakref.finalize(self, _stop, serving, thread, store, database)
        if not lobby.started.wait(START_S):
            raise SpiralError(f"bot web did not start within {START_S:g} s; start again")
        log.warning("bot web: people play at http://%s/play", address(self._host, bound))
        return lobby


def _stop(serving: uvicorn.Server, thread: threading.Thread, store: Store, database: Database) -> None:
    serving.should_exit = True
    thread.join(GRACE_S)
    store.close()
    database.close()


def _games_of(run: Path) -> list[GameInfo]:
    """A run's games as its page shows them."""
    plugins, found = Plugins.installed(), []
    for one in RunDir.open(run)[1].games:
        name = label(one.name, one.args)
        try:
            game = plugins.make("game", one.name, **one.args)
            found.append(GameInfo(name, game.num_players, game.rules, skills_of(game)))
        except SpiralError:  # such as of a plug-in that the run alone knows
            found.append(GameInfo(name, 2, ""))
    return found


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _view(game: Game, player: int) -> View:
    """A match as one player may see it."""
    mover = game.current_player()
    legal = game.legal_moves() if mover == player else []
    return View(
        to_move=mover,
        observations=tuple(game.observe(seat) if seat == player else "" for seat in range(game.num_players)),
        legal_moves=None if legal is None else tuple(legal),
        rules=game.rules,
        worst_return=worst_return(game),
        returns=None,
    )


async def _refused(place: _Place, question: Question, reason: str) -> None:
    place.seat.refused(question, reason)


async def _shown(place: _Place, question: Question) -> None:
    place.seat.shown(question)
