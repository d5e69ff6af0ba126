"""An arena that is killed at any moment: no rating is lost or doubled, no match is stuck, and the queue comes back.

The real command in a process of its own, ended by SIGKILL while programs play. They connect again to whatever listens
at the port, as the page does.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from spiral.arena import rating_log
from spiral.arena.database import Database
from spiral.arena.store import Store
from tests.postgresql import PostgresServer, programs

PLAYERS = 12


class Server:
    """`spiral arena` on a free port, killed and started again."""

    def __init__(self, folder, url):
        self.url = url
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (folder / "log").open("w")
        self.process = None

    def start(self):
        """Until it listens."""
        command = [
            sys.executable, "-m", "spiral", "arena", "--games", "tic_tac_toe", "--games", "kuhn_poker", "--house", "random",
            "--db", self.url, "--port", str(self.port), "--clock", "10",
        ]  # fmt: skip
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.02)

    def kill(self):
        """No handler runs, and nothing is flushed; the process of its games has to see by itself that it is gone."""
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def url(request, tmp_path):
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'arena.db'}"
        return
    if programs() is None:
        pytest.skip("no PostgreSQL is installed")
    database_server = PostgresServer()
    yield database_server.database()
    database_server.close()


@pytest.fixture
def server(tmp_path, url):
    made = Server(tmp_path, url)
    yield made
    if made.process is not None:
        made.kill()
    made.log.close()


async def _play(port, token, rng, told):
    """Play one match after another for ever; what the server said of the end of each is in `told`."""
    while True:
        with contextlib.suppress(OSError, WebSocketException, TimeoutError):
            async with connect(f"ws://127.0.0.1:{port}/api/play", close_timeout=0.2) as connection:
                await connection.send(json.dumps({"kind": "hello", "token": token}))
                async for text in connection:
                    message, answer = json.loads(text), None
                    if message["kind"] == "welcome" and not message["in_match"]:
                        answer = {"kind": "queue", "games": ["tic_tac_toe", "kuhn_poker"]}
                    elif message["kind"] == "turn":
                        move = rng.choice(message["legal_moves"])
                        answer = {"kind": "move", "number": message["number"], "move": move}
                    elif message["kind"] == "over":
                        told.append(message)
                        answer = {"kind": "queue", "games": ["tic_tac_toe", "kuhn_poker"]}
                    if answer is not None:
                        await connection.send(json.dumps(answer))
        await asyncio.sleep(0.05)


async def _killed(server, tokens, times, rng):
    told = []
    server.start()
    players = [asyncio.create_task(_play(server.port, token, random.Random(n), told)) for n, token in enumerate(tokens)]
    for _ in range(times):
        seen = len(told)
        while len(told) < seen + 5:  # under load, whatever the machine is busy with
            await asyncio.sleep(0.02)
        await asyncio.sleep(rng.random() * 0.5)
        server.kill()
        await asyncio.to_thread(server.start)
    seen = len(told)
    while len(told) < seen + 20:
        await asyncio.sleep(0.02)
    for player in players:
        player.cancel()
    await asyncio.gather(*players, return_exceptions=True)
    return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "times"),
    [("sqlite", 3), ("sqlite", 30), ("postgresql", 5)],
    indirect=["url"],
    ids=["3", "30", "postgresql"],
)
@pytest.mark.timeout(1800)
def test_an_arena_that_is_killed_loses_and_doubles_no_rating(server, times):
    """Each end that a player was told is kept as it was told, the ratings are those of the matches one after another,
    and matches of the killed servers went on or were ended."""
    database = Database(server.url)
    store = Store(database)
    tokens = [store.add_player(f"player {n}", "model")[1] for n in range(PLAYERS)]
    told = asyncio.run(_killed(server, tokens, times, random.Random(times)))
    end = time.monotonic() + 120
    while store.unfinished() and time.monotonic() < end:  # no connection is left: their clocks run out
        time.sleep(0.1)
    assert store.unfinished() == []
    with database.read() as connection:
        assert rating_log.differences(connection) == []
        _, changes = rating_log.computed(connection)
    kept = {(match, game, one.after.mu) for (match, _, game), one in changes.items()}
    for over in told:
        for rating in over["ratings"]:
            assert (over["match"], rating["game"], rating["after"][0]) in kept
    assert not [over for over in told if over["outcome"] == "voided"]
    store.close()
    database.close()


def test_a_player_that_waits_when_the_server_is_killed_waits_on(server):
    """Its next connection is in the queue again without asking, and is given a match."""
    database = Database(server.url)
    store = Store(database)
    tokens = [store.add_player(name, "model")[1] for name in ("ann",)]

    async def until(connection, kind):
        while (message := json.loads(await asyncio.wait_for(connection.recv(), 60)))["kind"] != kind:
            pass
        return message

    async def hello(token):
        connection = await connect(f"ws://127.0.0.1:{server.port}/api/play", close_timeout=0.2)
        await connection.send(json.dumps({"kind": "hello", "token": token}))
        await until(connection, "welcome")
        return connection

    async def play():
        ann = await hello(tokens[0])
        await ann.send(json.dumps({"kind": "queue", "games": ["kuhn_poker"]}))
        await until(ann, "queued")
        server.kill()
        await ann.close()
        await asyncio.to_thread(server.start)
        return await until(await hello(tokens[0]), "match")

    server.start()
    assert "ann" in asyncio.run(play())["players"]
    store.close()
    database.close()
