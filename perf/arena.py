"""The arena on the loopback: matches at once, players of the house with weights, and hours of play in minutes.

The server is the real command in processes of its own; the players are sockets of this process, so that the machine's
cores play both sides. `ARENA_MATCHES` (300,1000), `ARENA_S` (20) and `ARENA_SOAK_S` (60) change how much is played.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from perf.arena_players import Crowd, Server
from perf.measure import Figure, median_cpu, say, timed
from perf.parts import drain, make_parts
from perf.stand_ins import Recorder
from spiral.api.records import LEARNER
from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import installed
from spiral.arena.house import HousePlayer, PolicyChooser
from spiral.arena.records import Player
from spiral.arena.room import Room
from spiral.config.schema import PluginConfig

MATCHES = tuple(int(n) for n in os.environ.get("ARENA_MATCHES", "300,1000").split(",") if n)
SECONDS = float(os.environ.get("ARENA_S", "20"))
SOAK_S = float(os.environ.get("ARENA_SOAK_S", "60"))
TARGET_MS = {300: 150.0, 1000: 100.0}
HOUSE_MATCHES, HOUSE_GAMES, HOUSE_TARGET, REPEATS = 64, 128, 0.7, 3
SOAK_MATCHES, SOAK_CLOCK_S = 50, 10.0


def figures() -> Iterator[Figure]:
    """Latency by the number of matches at once, the house's tokens a second, and a soak."""
    for num_matches in MATCHES:
        yield from _matches_at_once(num_matches)
    if HOUSE_MATCHES:
        yield _house()
    if SOAK_S:
        yield from _soak()


def _matches_at_once(num_matches: int) -> Iterator[Figure]:
    """Tic-tac-toe between programs that think a second for each move."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), 2 * num_matches, 60.0) as server:
        crowd = Crowd(server, think_s=1.0)
        before = asyncio.run(crowd.play(SECONDS, server.cpu_s))
        cpu_s, played = server.cpu_s() - before, max(1, len(crowd.latencies_ms))
        yield Figure(
            f"arena p95, {num_matches} matches at once",
            crowd.percentile(95),
            "ms",
            TARGET_MS.get(num_matches),
            at_least=False,
            detail={
                "p50_ms": crowd.percentile(50), "p99_ms": crowd.percentile(99), "moves_a_s": played / SECONDS,
                "server_cpu_ms_a_move": 1000 * cpu_s / played, "players_cpu_ms_a_move": 1000 * crowd.cpu_s / played,
                "matches": crowd.at_once, "errors": dict(crowd.errors), "load": os.getloadavg()[0],
            },
        )  # fmt: skip


def _house() -> Figure:
    """Matches of a byte model against itself as a player of the house, over the same requests in one batch."""
    parts = make_parts("games=tic_tac_toe", "model=byte-1m", f"engine.args.max_rows={HOUSE_MATCHES}", legal=0.9)
    recorder, known = Recorder(parts.engine), parts.setup.completer
    chooser = PolicyChooser(replace(known, engine=recorder), LEARNER)
    host = GameHost(installed([PluginConfig("tic_tac_toe")]))
    house, offline, cpu = [], [], []
    try:
        for repeat in range(REPEATS):
            recorder.clear()
            house.append(timed(lambda seed=repeat: asyncio.run(_house_matches(chooser, host, 1000 * seed))))  # type: ignore[misc]
            requests, tokens = list(recorder.requests), sum(map(len, recorder.replies.values()))
            cpu.append(recorder.step_cpu)
            parts.reload()
            offline.append(timed(lambda asked=requests: drain(parts.engine, asked)))  # type: ignore[misc]
            say(f"   house {tokens / house[-1].wall:.0f} tokens/s, offline {tokens / offline[-1].wall:.0f}")
    finally:
        host.close()
    return Figure(
        f"house tokens/s in {HOUSE_MATCHES} matches over one batch",
        median_cpu(offline) / median_cpu(house),
        "x, CPU time of the server's process",
        HOUSE_TARGET,
        detail={
            "wall": sorted(b.wall / a.wall for a, b in zip(house, offline, strict=True))[REPEATS // 2],
            "engine_share": sum(cpu) / sum(one.cpu for one in house), "requests": len(requests), "tokens": tokens,
        },
    )  # fmt: skip


async def _house_matches(chooser: PolicyChooser, host: GameHost, first: int) -> None:
    """As many at once as are said, until all have been played; nothing is kept, for the database is measured above."""
    numbers = iter(range(first, first + HOUSE_GAMES))
    players = [HousePlayer(Player(n, f"house {n}", "house", "", n), chooser) for n in (1, 2)]

    async def play() -> None:
        for number in numbers:
            seats = [player.seat(host, number) for player in players]
            await Room(number, "tic_tac_toe", number, seats, _Unkept(), host, 600.0).run()  # type: ignore[arg-type]

    await asyncio.gather(*(play() for _ in range(HOUSE_MATCHES)))


class _Unkept:
    """In the place of a store: takes all and keeps nothing."""

    async def later(self, *_: object, **__: object) -> tuple[()]:
        return ()


def _soak() -> Iterator[Figure]:
    """Players that think for a moment, lose their connections now and then, and play on."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), 2 * SOAK_MATCHES, SOAK_CLOCK_S) as server:
        crowd = Crowd(server, think_s=0.05, drop=0.01)
        memory: list[float] = []
        # The first quarter fills caches; what grows after it grows for ever.
        memory.append(asyncio.run(crowd.play(SOAK_S, server.memory_mb, warm_up_s=SOAK_S / 4)))
        memory.append(server.memory_mb())
        time.sleep(SOAK_CLOCK_S + 5)  # no player is there any more: the clocks end their matches
        lost_or_doubled, stuck = server.stop_and_check()
        detail = {"seconds": SOAK_S, "matches": crowd.ended, "memory_mb": memory, "errors": dict(crowd.errors)}
        yield Figure("arena soak, ratings lost or doubled", lost_or_doubled, "ratings", 0.0, False, detail)
        yield Figure("arena soak, stuck matches", stuck, "matches", 0.0, False)
        yield Figure("arena soak, memory growth", memory[-1] - memory[0], "MB", detail={"of_mb": memory[0]})
