"""Games in processes of their own: one that hangs or raises ends its own match, and never the server.

A game is a pure function of its seed and its moves, so the other matches of a process that had to be killed are played
again from theirs.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove
from spiral.arena.game_worker import Games, View, serve

LIMIT_S = 5.0
"""What a game may take for one move."""
START_S = 120.0
"""What a process may take to start and to load the plug-ins."""


class GameFault(Exception):
    """The game's own code raised, hung, or took its process with it: the match is voided. The text is the cause."""


class GameHost:
    """Plays matches in its processes. Any thread may call it; the methods named a... are for coroutines."""

    def __init__(self, games: Games, num_processes: int = 1, limit_s: float = LIMIT_S) -> None:
        """`games`: called in each process, so it can be pickled. Without a process every game is a fault."""
        self._processes = [_Process(games, limit_s) for _ in range(num_processes)]
        self._replays = itertools.count(-1, -1)  # numbers that no match in play has

    def open(self, match: int, game: str, seed: int, moves: Sequence[str] = ()) -> View:
        """Start a match, or one that was in play, after its legal moves so far. Raises GameFault."""
        view: View = self._ask(match, "open", game, seed, list(moves)).result()
        return view

    def play(self, match: int, move: str) -> View:
        """Make a move of the player to move. Raises IllegalMove and GameFault."""
        view: View = self._ask(match, "play", move).result()
        return view

    def copy(self, match: int) -> Game:
        """The game as it stands, for a bot that reads it. Raises GameFault."""
        game: Game = self._ask(match, "copy").result()
        return game

    def skills(self, match: int) -> dict[str, float]:
        """The skills that the game declares, with their weights. Raises GameFault."""
        declared: dict[str, float] = self._ask(match, "skills").result()
        return declared

    def replay(self, game: str, seed: int, moves: Sequence[str]) -> list[View]:
        """The match before each of these legal moves, and after the last. One request a move, so that matches in play
        are answered in between. Raises GameFault."""
        number = next(self._replays)
        try:
            return [self.open(number, game, seed), *(self.play(number, move) for move in moves)]
        except IllegalMove as reason:
            raise GameFault(f"it does not take a move any more that it took: {reason}") from reason
        finally:
            self.close_match(number)

    def sample(self, game: str, seed: int, max_moves: int) -> list[str]:
        """The first moves of a match of random legal moves; none where the game's moves are free text and it draws
        none itself. Raises GameFault."""
        number, moves = next(self._replays), list[str]()
        try:
            view = self.open(number, game, seed)
            while view.to_move is not None and len(moves) < max_moves:
                move: str | None = self._ask(number, "sample", seed + len(moves)).result()
                if move is None:
                    break
                view = self.play(number, move)
                moves.append(move)
        except IllegalMove as reason:
            raise GameFault(f"it does not take a move that it lists: {reason}") from reason
        finally:
            self.close_match(number)
        return moves

    def close_match(self, match: int) -> None:
        """Forget a match."""
        self._ask(match, "close").result()

    async def aopen(self, match: int, game: str, seed: int, moves: Sequence[str] = ()) -> View:
        """See `open`."""
        view: View = await asyncio.wrap_future(self._ask(match, "open", game, seed, list(moves)))
        return view

    async def aplay(self, match: int, move: str) -> View:
        """See `play`."""
        view: View = await asyncio.wrap_future(self._ask(match, "play", move))
        return view

    async def acopy(self, match: int) -> Game:
        """See `copy`."""
        game: Game = await asyncio.wrap_future(self._ask(match, "copy"))
        return game

    async def amessages(self, match: int, player: int) -> Sequence[tuple[int, str, str]] | None:
        """What a player was told, where the game keeps that as messages (`KeepsMessages`), else None. Raises
        GameFault."""
        told: Sequence[tuple[int, str, str]] | None = await asyncio.wrap_future(self._ask(match, "messages", player))
        return told

    async def aclose_match(self, match: int) -> None:
        """See `close_match`."""
        await asyncio.wrap_future(self._ask(match, "close"))

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()

    def _ask(self, match: int, verb: str, *rest: Any) -> Future[Any]:
        if not self._processes:
            raise GameFault("no game is played here")
        return self._processes[match % len(self._processes)].submit(_Request(verb, match, rest))


@dataclass(frozen=True)
class _Request:
    verb: str
    match: int
    rest: tuple[Any, ...] = ()
    answer: Future[Any] = field(default_factory=Future)


@dataclass
class _Hosted:
    game: str
    seed: int
    generation: int
    moves: list[str]


class _Process:
    """One process, and the thread that asks it: all requests that wait go to it in one message, and it answers one
    after another."""

    def __init__(self, games: Games, limit_s: float) -> None:
        self._games, self._limit_s = games, limit_s
        self._generation = 0
        """Counts the processes that this one replaced."""
        self._hosted: dict[int, _Hosted] = {}
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._again: list[_Request] = []
        """Those that a process which was killed did not come to; they are first."""
        self._closing = False
        self._start()
        self._thread = threading.Thread(target=self._work, name="arena games", daemon=True)
        self._thread.start()

    def submit(self, request: _Request) -> Future[Any]:
        """What the process will answer; raises IllegalMove, and GameFault where the game failed."""
        self._waiting.put(request)
        if self._closing:
            request.answer.cancel()
        return request.answer

    def close(self) -> None:
        """End it, whatever it does; requests without an answer are cancelled."""
        self._closing = True
        self._process.kill()  # a thread that waits for its answer hears of its end
        self._waiting.put(None)
        self._thread.join()
        self._kill()

    def _work(self) -> None:
        while (batch := self._batch()) and not self._closing:
            unanswered = batch
            try:
                unanswered = self._ask(batch)
                if unanswered and not self._closing:
                    # The first is the one whose game did it; the process did not come to the others.
                    self._replace()
            except SpiralError as error:  # no process starts: what waits for it is voided, and the next tries again
                _fail(unanswered, str(error))
                unanswered = []
            self._again = list(unanswered[1:])
        for request in (*self._again, *batch):
            request.answer.cancel()

    def _batch(self) -> list[_Request]:
        """What waits, at least one; nothing when the process is to end."""
        batch, self._again = self._again, []
        while not batch or not self._waiting.empty():
            request = self._waiting.get()
            if request is None:
                self._again = batch
                return []
            batch.append(request)
        return batch

    def _ask(self, batch: list[_Request]) -> list[_Request]:
        """Answer the requests; those are left, in their order, that the process did not answer."""
        sent = [(request, restored) for request in batch for restored in self._restored(request)]
        left = list(batch)
        try:
            self._connection.send([(one.verb, one.match, *one.rest) for _, one in sent])
            for request, one in sent:
                if not self._connection.poll(self._limit_s):
                    raise GameFault(f"no answer within {self._limit_s:g} s")
                kind, answer = self._connection.recv()
                self._heard(request, one, kind, answer)
                if one is request:
                    left.remove(request)
        except Exception as error:  # the process is gone, or what it sent cannot be read
            fault = error if isinstance(error, GameFault) else GameFault(f"its process ended ({type(error).__name__})")
            self._hosted.pop(left[0].match, None)
            _fail(left[:1], str(fault))
        return left

    def _restored(self, request: _Request) -> list[_Request]:
        """The request, after one that plays its match again if that was in a process which had to be killed."""
        match = request.match
        if request.verb == "open":
            game, seed, moves = request.rest
            self._hosted[match] = _Hosted(game, seed, self._generation, list(moves))
        elif request.verb != "close" and (hosted := self._hosted.get(match)) and hosted.generation != self._generation:
            hosted.generation = self._generation
            return [_Request("open", match, (hosted.game, hosted.seed, list(hosted.moves))), request]
        return [request]

    def _heard(self, request: _Request, one: _Request, kind: str, answer: Any) -> None:
        if kind == "fault" or request.verb == "close":
            self._hosted.pop(request.match, None)
        elif one is request and one.verb == "play" and kind == "done":
            self._hosted[one.match].moves.append(one.rest[0])
        if one is not request or not one.answer.set_running_or_notify_cancel():
            return
        if kind == "done":
            one.answer.set_result(answer)
        else:
            one.answer.set_exception(IllegalMove(answer) if kind == "illegal" else GameFault(answer))

    def _replace(self) -> None:
        self._kill()
        self._generation += 1
        self._start()

    def _kill(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._games), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_S):
            self._kill()
            raise SpiralError(f"the process that plays the games did not start within {START_S:g} s; start again")
        try:
            self._connection.recv()
        except EOFError as error:
            raise SpiralError("the process that plays the games ended as it started; see what it said") from error


def _fail(requests: Sequence[_Request], cause: str) -> None:
    for request in requests:
        if not request.answer.done() and request.answer.set_running_or_notify_cancel():
            request.answer.set_exception(GameFault(cause))
