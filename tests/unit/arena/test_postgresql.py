"""An arena on PostgreSQL: a server whose database goes away and comes back, or is taken over, and what is told of one
that cannot be opened."""

import contextlib
import signal
import sys
import threading
import time

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed

from spiral.api.errors import SpiralError
from spiral.arena import match_log, postgresql, rating_log
from spiral.arena.database import Database
from spiral.arena.store import Store
from spiral.arena_client import play
from spiral.commands.main import main
from tests.postgresql import PostgresServer, programs
from tests.unit.arena.conftest import running

LOCK = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 2"


@pytest.fixture
def own_server():
    """A database server that the test stops, with every commit on the disk."""
    if programs() is None:
        pytest.skip("no PostgreSQL is installed")
    made = PostgresServer()
    yield made
    made.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "crash"])
def test_a_match_goes_on_when_its_database_was_restarted(own_server, host, monkeypatch, how):
    """A move that is made meanwhile waits, as for a locked file, and is there afterwards; so is all from before."""
    with (
        running(own_server.database(), host, monkeypatch, house_after_s=1e6) as arena,
        arena.meeting("tic_tac_toe") as two,
    ):
        turn = two[0].until("turn")
        two[0].send(kind="move", number=turn["number"], move=turn["legal_moves"][0])
        turn = two[1].until("turn")
        own_server.stop(how)
        two[1].send(kind="move", number=turn["number"], move=turn["legal_moves"][0])
        assert arena.ask("/leaderboard") == (503, "the arena's database does not answer; try again in a moment\n")
        with pytest.raises(TimeoutError):
            two[0].until("turn", within=0.5)
        own_server.start()
        ends = [None, None]

        def finish(seat):
            ends[seat] = two[seat].play()

        threads = [threading.Thread(target=finish, args=(seat,)) for seat in (0, 1)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        assert [end["ending"] for end in ends] == ["finished", "finished"]
        stored = arena.store.match(ends[0]["match"])
        assert [move.move for move in stored.moves[:2]] == ["0", turn["legal_moves"][0]]
        with arena.store.database.read() as connection:
            assert rating_log.differences(connection) == []


def test_a_client_waits_for_the_database_of_its_arena(own_server, host, monkeypatch):
    """One that is away when it says hello, and when it queues for its next match."""
    with running(own_server.database(), host, monkeypatch) as arena:
        token, url = arena.register("ann"), f"http://127.0.0.1:{arena.port}"
        own_server.stop()
        back = threading.Timer(1.0, own_server.start)
        back.start()
        ended = play(url, token, ["kuhn_poker"], lambda turn: turn.legal_moves[0], 1)
        with arena.connection(arena.register("bob")) as bob:
            bob.send(kind="ping")
            bob.until("pong")  # after which nothing is read for it until it asks
            own_server.stop()
            bob.send(kind="queue", games=["kuhn_poker"])
            with pytest.raises(ConnectionClosed, match="1013 .* does not answer; try again"):
                bob.until("queued")
        assert [one.ending for one in ended] == ["finished"]
        own_server.start()


def test_a_connection_that_is_lost_is_made_again_with_the_servers_lock(postgres_server):
    """What was being written is written after it; the session of before is ended where the database still has it."""
    database = Database(postgres_server.database(), serves=True)
    store = Store(database)
    store.add_player("a", "model")
    with database.read() as connection:
        (holder,) = connection.execute(text(LOCK)).one()
    with database._writes.connect() as connection:
        connection.detach()  # as a connection that nothing comes over any more: the database knows nothing of it
        connection.invalidate()
        kept = connection  # noqa: F841
        store.add_player("b", "model")
    with database.read() as connection:
        (new,) = connection.execute(text(LOCK)).one()
    assert new != holder
    store.close()
    database.close()


def test_a_server_that_lost_its_database_to_another_writes_nothing_more(postgres_server, monkeypatch):
    """It was away while another one was started: its matches go on there, so it ends."""
    monkeypatch.setattr(postgresql, "START_S", 0.0)
    url, replaced = postgres_server.database(), threading.Event()
    first = Database(url, serves=True)
    store = Store(first, replaced.set)
    players = [store.add_player(name, "model")[0].id for name in "ab"]
    match = store.now(match_log.start_match, "g", 0, players)
    (holder,) = postgres_server.execute(LOCK)
    postgres_server.execute(f"SELECT pg_terminate_backend({holder})")
    while postgres_server.execute(LOCK):
        time.sleep(0.01)
    second = Database(url, serves=True)
    for _ in range(2):
        with pytest.raises(SpiralError, match="an arena runs on this database already|the arena closes"):
            store.now(match_log.finish_match, match, [1.0, -1.0], "finished")
    assert replaced.is_set()
    second.close()
    with pytest.raises(SpiralError, match="the arena closes"):  # now that it could
        store.now(match_log.finish_match, match, [1.0, -1.0], "finished")
    assert store.match(match).status == "playing"
    store.close()
    first.close()


def test_writers_of_several_processes_take_turns(postgres_server):
    """An administrator that voids while matches end meets no error of transactions that cannot be put in an order."""
    url = postgres_server.database()
    databases = [Database(url) for _ in range(3)]
    stores = [Store(one) for one in databases]
    players = [stores[0].add_player(name, "model")[0].id for name in "abc"]
    begun = [stores[0].now(match_log.start_match, "g", n, [players[n % 3], players[(n + 1) % 3]]) for n in range(60)]

    def play(n):
        for match in begun[n::3]:
            stores[n].now(match_log.finish_match, match, [1.0, -1.0], "finished")
            if match % 5 == 0:
                stores[n].now(rating_log.take_out, match)

    threads = [threading.Thread(target=play, args=(n,)) for n in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    with databases[0].read() as connection:
        assert rating_log.differences(connection) == []
        assert len(rating_log.computed(connection)[1]) == 4 * (60 - 12)
    for one in (*stores, *databases):
        one.close()


def _told(url, *words):
    done = CliRunner().invoke(main, ["arena", "--db", url, *words])
    assert isinstance(done.exception, SystemExit), done.exception
    assert "secret" not in done.output
    assert len(done.output.splitlines()) == 1
    return done.exit_code, done.output


def test_what_cannot_be_opened_is_told_in_a_sentence(postgres_server, monkeypatch):
    """A wrong password, no such database, one that cannot hold all letters, and no driver; the password is in none."""
    url = postgres_server.database()
    code, said = _told(url.replace("secret", "wrong"))
    assert (code, 'password authentication failed for user "arena"' in said, "wrong" in said) == (2, True, False)
    code, said = _told(f"{url}x")
    assert (code, "does not exist" in said, "createdb" in said) == (2, True, True)
    code, said = _told(postgres_server.database("ENCODING 'LATIN1' TEMPLATE template0"))
    assert (code, "the encoding LATIN1" in said, "createdb --encoding=UTF8" in said) == (2, True, True)
    with contextlib.closing(Database(url, serves=True)):
        monkeypatch.setattr(postgresql, "START_S", 0.0)
        assert "an arena runs on this database already" in _told(url)[1]
    monkeypatch.setitem(sys.modules, "psycopg", None)
    code, said = _told(url)
    assert (code, 'pip install "spiral-selfplay[arena-postgresql]"' in said) == (2, True)
