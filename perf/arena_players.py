"""A server of the arena in processes of its own, and scripted players that measure how soon a move is seen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from spiral.arena.database import Database
from spiral.arena.rating_log import differences
from spiral.arena.store import Store

START_S = 240.0
GAME = "tic_tac_toe"


class Server:
    """`spiral arena` with players that are registered already."""

    def __init__(self, folder: Path, num_players: int, clock_s: float) -> None:
        self.url = f"sqlite:///{folder / 'arena.db'}"
        database = Database(self.url)
        store = Store(database)
        self.tokens = [store.add_player(f"player {n}", "model")[1] for n in range(num_players)]
        store.close()
        database.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        command = [
            sys.executable, "-m", "spiral", "arena", "--games", GAME, "--house", "random", "--db", self.url,
            "--port", str(self.port), "--per-address", "100000", "--clock", str(clock_s),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)

    def __enter__(self) -> Server:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.1)
        raise RuntimeError("the arena does not listen")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cpu_s(self) -> float:
        """Of the server and its processes so far."""
        return sum(sum(map(int, stat[11:13])) for stat in self._stats()) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory of the server and its processes."""
        return sum(int(stat[21]) for stat in self._stats()) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop_and_check(self) -> tuple[float, float]:
        """Stop it as a user does; how many ratings are not what the matches give, and how many matches are in play,
        which their clocks should have ended."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        database = Database(self.url)
        store = Store(database)
        with database.read() as connection:
            wrong = differences(connection)
        stuck = store.unfinished()
        store.close()
        database.close()
        return float(len(wrong)), float(len(stuck))

    def _stats(self) -> list[list[str]]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                    if int(fields[2]) == self._process.pid:  # its process group
                        found.append(fields)
        return found


class Crowd:
    """Players that play one match after another."""

    def __init__(self, server: Server, think_s: float, drop: float = 0.0) -> None:
        """`drop`: how often a player loses its connection in place of a move."""
        self._server, self._think_s, self._drop = server, think_s, drop
        self._sent: dict[tuple[int, int], float] = {}
        self.latencies_ms: list[float] = []
        self.ended = 0
        self.at_once = 0
        self.cpu_s = 0.0
        self.errors: Counter[str] = Counter()
        self._measures = False
        self._playing: set[int] = set()

    def percentile(self, percent: int) -> float:
        """Of the latencies in milliseconds; infinite where there is none."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("inf")

    async def play(self, seconds: float, at_start: Callable[[], float], warm_up_s: float = 5.0) -> float:
        """Connect all, let them play for a while, then measure; what `at_start` said when that began."""
        tasks = []
        for n, token in enumerate(self._server.tokens):
            tasks.append(asyncio.create_task(self._player(token, random.Random(n))))
            await asyncio.sleep(0.004)  # as many a second as their matches last
        while len(self._playing) < 0.9 * len(tasks):
            await asyncio.sleep(0.1)
        await asyncio.sleep(warm_up_s)
        told, cpu_s, self._measures = at_start(), time.process_time(), True
        at_once = []
        for _ in range(10):
            await asyncio.sleep(seconds / 10)
            at_once.append(len(self._playing) // 2)
        self.at_once, self.cpu_s, self._measures = min(at_once), time.process_time() - cpu_s, False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return told

    async def _player(self, token: str, rng: random.Random) -> None:
        address = f"ws://127.0.0.1:{self._server.port}/api/play"
        while True:
            try:
                async with connect(address, compression=None, close_timeout=1, open_timeout=60) as connection:
                    await self._connected(connection, token, rng)
            except (OSError, WebSocketException, TimeoutError) as error:
                self.errors[type(error).__name__] += 1
            await asyncio.sleep(0.5)

    async def _connected(self, connection: ClientConnection, token: str, rng: random.Random) -> None:
        loop, moves = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        await connection.send(json.dumps({"kind": "hello", "token": token}))
        async for text in connection:
            now, message = loop.time(), json.loads(text)
            kind = message["kind"]
            if kind == "turn":
                self._seen(message["match"], message["number"], now)
                if rng.random() < self._drop:
                    return
                task = asyncio.create_task(self._move(connection, message, rng.choice(message["legal_moves"])))
                moves.add(task)
                task.add_done_callback(moves.discard)
            elif kind == "match":
                self._playing.add(id(connection))
            elif kind == "error":
                self.errors[message["reason"]] += 1
            elif kind == "over" or (kind == "welcome" and not message["in_match"]):
                self._playing.discard(id(connection))
                self.ended += kind == "over"
                await connection.send(json.dumps({"kind": "queue", "games": [GAME]}))

    async def _move(self, connection: ClientConnection, turn: dict[str, Any], move: str) -> None:
        await asyncio.sleep(self._think_s)
        with suppress(WebSocketException):
            self._sent[turn["match"], turn["number"] + 1] = asyncio.get_running_loop().time()
            await connection.send(json.dumps({"kind": "move", "number": turn["number"], "move": move}))

    def _seen(self, match: int, number: int, now: float) -> None:
        """The turn after a move, by the player whose turn it is."""
        sent = self._sent.pop((match, number), None)
        if sent is not None and self._measures:
            self.latencies_ms.append(1000 * (now - sent))
