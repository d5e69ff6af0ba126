"""Games in processes of their own: one that hangs or raises ends its own match, and never the server.

A game is a pure function of its seed and its moves, so the other matches of a process that had to be killed are played
again from theirs.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove, worst_return
from spiral.config.schema import PluginConfig
from spiral.plugins.registry import Plugins, label

LIMIT_S = 5.0
"""What a game may take for one move."""
START_S = 60.0
"""What a process may take to start and to load the plug-ins."""


class GameFault(Exception):
    """The game's own code raised, hung, or took its process with it: the match is voided. The text is the cause."""


@dataclass(frozen=True)
class View:
    """A match as it stands; for the server alone, since it holds what each player sees."""

    to_move: int | None
    """The seat; None when the match is over."""
    observations: tuple[str, ...]
    """One a seat."""
    legal_moves: tuple[str, ...] | None
    """Of the seat to move; None when moves are free text."""
    rules: str
    worst_return: float
    """What a player gets who forfeits."""
    returns: tuple[float, ...] | None
    """One a seat, when the match is over."""


Games = Callable[[], Mapping[str, Callable[[], Game]]]
"""Makes label -> what makes a match."""


def installed(games: Sequence[PluginConfig]) -> Games:
    """The games of installed plug-ins."""
    return functools.partial(_bound, tuple(games))


def _bound(games: Sequence[PluginConfig]) -> dict[str, Callable[[], Game]]:
    plugins = Plugins.installed()
    return {label(one.name, one.args): plugins.bound("game", one.name, one.args) for one in games}


@dataclass
class _Hosted:
    game: str
    seed: int
    generation: int
    moves: list[str] = field(default_factory=list)


class GameHost:
    """Plays matches in its processes. Each method waits for the game's answer; any thread may call it."""

    def __init__(self, games: Games, num_processes: int = 1, limit_s: float = LIMIT_S) -> None:
        """`games`: called in each process, so it can be pickled."""
        self._processes = [_Process(games, limit_s) for _ in range(num_processes)]
        self._hosted: dict[int, _Hosted] = {}

    def open(self, match: int, game: str, seed: int, moves: Sequence[str] = ()) -> View:
        """Start a match, or one that was in play, after its legal moves so far. Raises GameFault."""
        process = self._process(match)
        with process.lock:
            self._hosted[match] = _Hosted(game, seed, process.generation, list(moves))
            view: View = self._asked(process, match, "open", match, game, seed, list(moves))
        return view

    def play(self, match: int, move: str) -> View:
        """Make a move of the player to move. Raises IllegalMove and GameFault."""
        process, hosted = self._process(match), self._hosted[match]
        with process.lock:
            self._restore(process, match, hosted)
            view: View = self._asked(process, match, "play", match, move)
            hosted.moves.append(move)
        return view

    def copy(self, match: int) -> Game:
        """The game as it stands, for a bot that reads it. Raises GameFault."""
        process, hosted = self._process(match), self._hosted[match]
        with process.lock:
            self._restore(process, match, hosted)
            copied: Game = self._asked(process, match, "copy", match)
        return copied

    def close_match(self, match: int) -> None:
        """Forget a match."""
        process = self._process(match)
        with process.lock:
            if self._hosted.pop(match, None) is not None:
                with suppress(GameFault):
                    process.ask("close", match)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()

    def _process(self, match: int) -> _Process:
        return self._processes[match % len(self._processes)]

    def _restore(self, process: _Process, match: int, hosted: _Hosted) -> None:
        """Play a match again that was in a process which had to be killed."""
        if hosted.generation != process.generation:
            self._asked(process, match, "open", match, hosted.game, hosted.seed, hosted.moves)
            hosted.generation = process.generation

    def _asked(self, process: _Process, match: int, *request: Any) -> Any:
        try:
            return process.ask(*request)
        except GameFault:
            self._hosted.pop(match, None)
            raise


class _Process:
    """One process; asked by one thread at a time, which holds `lock`."""

    def __init__(self, games: Games, limit_s: float) -> None:
        self._games, self._limit_s = games, limit_s
        self.lock = threading.Lock()
        self.generation = 0
        """Counts the processes that this one replaced."""
        self._start()

    def ask(self, *request: Any) -> Any:
        """What the process answers. Raises IllegalMove, and GameFault where the game failed."""
        try:
            self._connection.send(request)
            if not self._connection.poll(self._limit_s):
                raise GameFault(f"no answer within {self._limit_s:g} s")
            kind, answer = self._connection.recv()
        except GameFault:
            self._replace()
            raise
        except Exception as error:  # the process is gone, or what it sent cannot be read
            self._replace()
            raise GameFault(f"its process ended ({type(error).__name__})") from error
        if kind == "illegal":
            raise IllegalMove(answer)
        if kind == "fault":
            raise GameFault(answer)
        return answer

    def kill(self) -> None:
        """End it, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.join()

    def _replace(self) -> None:
        self.kill()
        self.generation += 1
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._games), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_S):
            self.kill()
            raise SpiralError(f"the process that plays the games did not start within {START_S:g} s; start again")
        self._connection.recv()


def _serve(connection: Connection, games: Games) -> None:
    """Answer requests, one after another, until the connection closes."""
    makers = games()
    playing: dict[int, Game] = {}
    connection.send("ready")
    while True:
        try:
            verb, match, *rest = connection.recv()
        except EOFError:
            return
        try:
            if verb == "open":
                playing[match] = _opened(makers, *rest)
            elif verb == "play":
                playing[match].play(*rest)
            elif verb == "close":
                playing.pop(match, None)
            answer = ("done", None) if verb == "close" else ("done", playing[match])
            connection.send(answer if verb in ("copy", "close") else ("done", _view(playing[match])))
        except IllegalMove as reason:
            connection.send(("illegal", str(reason)))
        except Exception as error:
            playing.pop(match, None)
            connection.send(("fault", f"{type(error).__name__}: {error}"[:300]))


def _opened(makers: Mapping[str, Callable[[], Game]], game: str, seed: int, moves: Sequence[str]) -> Game:
    made = makers[game]()
    made.reset(random.Random(seed))
    for move in moves:
        made.play(move)
    return made


def _view(game: Game) -> View:
    seat = game.current_player()
    legal = game.legal_moves() if seat is not None else []
    return View(
        seat,
        tuple(game.observe(player) for player in range(game.num_players)),
        None if legal is None else tuple(legal),
        game.rules,
        worst_return(game),
        tuple(map(float, game.returns())) if seat is None else None,
    )
