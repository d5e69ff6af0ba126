"""A whole arena on the loopback, on a port of its own, with players that are programs."""

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import uvicorn
from websockets.sync.client import connect

from spiral.arena import lobby as lobby_module
from spiral.arena.database import Database
from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import installed
from spiral.arena.house import BotChooser, HousePlayer
from spiral.arena.listening import configured
from spiral.arena.lobby import GameInfo, Lobby
from spiral.arena.server import application
from spiral.arena.store import Store
from spiral.config.schema import PluginConfig
from spiral.plugins.registry import Plugins
from spiral.testing.faults import faulty_games
from tests.postgresql import PostgresServer, programs

GAMES = ("kuhn_poker", "tic_tac_toe")


def all_games():
    """Called in the process that plays: installed games, and one that fails where it is told to."""
    return {**installed([PluginConfig(name) for name in GAMES])(), **faulty_games()}


@dataclass
class RunningArena:
    """Its address, and what it keeps."""

    port: int
    lobby: Lobby
    store: Store
    loop: asyncio.AbstractEventLoop
    stop: Callable[[], None]

    def ask(self, path, body=None, headers=None):
        """Status and text of an answer."""
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def register(self, name, kind="model"):
        """The token of a new player."""
        status, text = self.ask("/api/players", {"name": name, "kind": kind})
        assert status == 200, text
        return json.loads(text)["token"]

    @contextlib.contextmanager
    def connection(self, token, **options):
        """A connection that said hello, and was welcomed."""
        with connect(f"ws://127.0.0.1:{self.port}/api/play", **options) as socket:
            socket.send(json.dumps({"kind": "hello", "token": token}))
            yield Client(socket)

    @contextlib.contextmanager
    def meeting(self, game):
        """Two programs in one match of a game, by their seats; the house lets them meet."""
        house_after_s, lobby_module.HOUSE_AFTER_S = lobby_module.HOUSE_AFTER_S, 1e6
        tokens = [self.register(name) for name in ("ann", "bob")]
        with self.connection(tokens[0]) as ann, self.connection(tokens[1]) as bob:
            for one in (ann, bob):
                one.send(kind="queue", games=[game])
            players = {one.until("match")["seat"]: one for one in (ann, bob)}
            lobby_module.HOUSE_AFTER_S = house_after_s
            yield [players[seat] for seat in (0, 1)]


class Client:
    """Messages over a socket."""

    def __init__(self, socket):
        self.socket = socket
        self.heard = []

    def send(self, **message):
        """One message."""
        self.socket.send(json.dumps(message))

    def until(self, *kinds, within=90.0):
        """The next message of one of the kinds; those before it are in `heard`."""
        end = time.monotonic() + within
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.1, end - time.monotonic())))
            self.heard.append(message)
            if message["kind"] in kinds:
                return message

    def play(self, choose=lambda turn: turn["legal_moves"][0]):
        """Answer every turn until the match is over; how that ended."""
        while (message := self.until("turn", "over"))["kind"] == "turn":
            self.send(kind="move", number=message["number"], move=choose(message))
        return message


BOTH_DATABASES = {
    "test_store", "test_writing", "test_database", "test_administration", "test_room", "test_server", "test_history",
    "test_skills", "test_reply_tokens",
}  # fmt: skip
"""Files of which each test with a database is done on SQLite and on PostgreSQL."""


def pytest_generate_tests(metafunc):
    own = any("url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if not own and "url" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in BOTH_DATABASES:
        metafunc.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgres_server():
    if programs() is None:
        pytest.skip("no PostgreSQL is installed")
    made = PostgresServer("fsync=off")
    yield made
    made.close()


@pytest.fixture
def url(request, tmp_path):
    """An empty database: SQLite, or what the test's parameter says."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return request.getfixturevalue("postgres_server").emptied()
    return f"sqlite:///{tmp_path / 'arena.db'}"


@pytest.fixture
def database(url):
    made = Database(url)
    yield made
    made.close()


@pytest.fixture
def store(database):
    made = Store(database)
    yield made
    made.close()


@pytest.fixture(scope="package")
def host():
    made = GameHost(all_games, limit_s=2.0)
    yield made
    made.close()


@pytest.fixture
def arena(url, host, monkeypatch):
    """An arena in which the house plays the two installed games after a tenth of a second."""
    with running(url, host, monkeypatch) as made:
        yield made


@contextlib.contextmanager
def running(url, host, monkeypatch, clock_s=60.0, house_after_s=0.1, limits=None, runs=None):
    """An arena on its database until the block ends."""
    monkeypatch.setattr(lobby_module, "HOUSE_AFTER_S", house_after_s)
    monkeypatch.setattr(lobby_module, "PAIRING_S", 0.02)
    database = Database(url)
    store, plugins = Store(database), Plugins.installed()
    random_bot = HousePlayer(store.house_player("random"), BotChooser(plugins.make("bot", "random"), "random"))
    games = [GameInfo(name, 2, "") for name in (*GAMES, "faulty")]
    lobby = Lobby(store, host, games, {name: [random_bot] for name in GAMES}, clock_s)
    resumed, pair = threading.Event(), lobby.pair

    async def told():
        resumed.set()
        await pair()

    monkeypatch.setattr(lobby, "pair", told)
    server = uvicorn.Server(configured(application(lobby, limits, runs=runs), "127.0.0.1", 0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    # A match that a test writes into the database earlier would be taken for one of a server that was killed.
    assert resumed.wait(30)
    while not server.started:
        time.sleep(0.01)
    (listener,) = server.servers

    def stop():
        server.should_exit = True
        thread.join(10)

    yield RunningArena(listener.sockets[0].getsockname()[1], lobby, store, listener.get_loop(), stop)
    stop()
    store.close()
    database.close()
