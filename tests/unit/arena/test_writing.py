"""Writes: in order, many in a transaction, each wholly or not at all, and none lost while the database is away."""

import contextlib
import threading
import time

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from spiral.api.errors import SpiralError
from spiral.arena import database as db
from spiral.arena import match_log, rating_log
from spiral.arena.writing import Writer


@pytest.fixture
def outage(database, monkeypatch):
    """While the event is set every transaction fails as a lost database does; how many did is counted."""
    down, failed, write = threading.Event(), [], database.write

    @contextlib.contextmanager
    def failing():
        with write() as connection:
            yield connection
            if down.is_set():  # at the commit, after all was written
                failed.append(1)
                raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(database, "write", failing)
    down.failed = failed
    return down


def _matches(store, num):
    players = [store.add_player(name, "model")[0].id for name in "abc"]
    return [store.now(match_log.start_match, "g", n, [players[n % 3], players[(n + 1) % 3]]) for n in range(num)]


def test_matches_that_end_while_the_database_is_away_are_rated_when_it_is_back(store, database, outage):
    """All twenty, once each, in the order in which they ended."""
    begun = _matches(store, 20)
    outage.set()
    ends = [store._writer.submit(match_log.finish_match, match, [1.0, -1.0], "finished") for match in begun[::-1]]
    while len(outage.failed) < 3:
        time.sleep(0.01)
    assert not any(end.done() for end in ends)
    assert store.leaderboard("g") == []
    outage.clear()
    assert all(len(end.result(20)) == 4 for end in ends)
    with database.read() as connection:
        order = connection.scalars(select(db.matches.c.id).order_by(db.matches.c.ended_as)).all()
        assert order == begun[::-1]
        assert rating_log.differences(connection) == []
    assert sum(one.matches for one in store.leaderboard("g")) == 40


def test_a_database_that_another_program_locks_is_waited_for(store, url):
    """A lock is no error at all: the move is kept when it is gone, and reading goes on meanwhile."""
    (match,) = _matches(store, 1)
    other = db.Database(url)
    with other.write():
        end = store._writer.submit(match_log.finish_match, match, [1.0, -1.0], "finished")
        assert store.match(match).status == "playing"
        time.sleep(0.2)
        assert not end.done()
    other.close()
    assert end.result(20)
    assert store.match(match).status == "finished"


def test_what_waits_is_written_in_one_transaction(database, monkeypatch):
    """A commit waits for the disk, and a thousand moves a second cannot wait for it one by one."""
    commits, write, first = [], database.write, threading.Event()

    @contextlib.contextmanager
    def counted():
        first.wait(10)
        with write() as connection:
            yield connection
        commits.append(1)

    monkeypatch.setattr(database, "write", counted)
    writer, order = Writer(database), []
    answers = [writer.submit(lambda connection, n=n: order.append(n) or n) for n in range(100)]
    first.set()
    assert [answer.result(20) for answer in answers] == order == list(range(100))
    assert len(commits) <= 2
    writer.close()


def test_a_write_that_fails_leaves_the_others_of_its_transaction(store, database):
    """Its caller gets what it raised, and nothing of it is kept."""
    (match,) = _matches(store, 1)

    def half(connection):
        connection.execute(insert(db.waiting).values(player=1, games=[], since=0.0))
        connection.execute(insert(db.matches).values(id=match, game="g", seed=0, status="playing", started=0.0))

    answers = [store._writer.submit(half), store._writer.submit(match_log.void_match, match, "x")]
    with pytest.raises(IntegrityError):
        answers[0].result(20)
    assert answers[1].result(20)
    assert store.waits(1) is None


def test_a_write_that_was_done_is_not_done_twice(store):
    """A transaction whose commit failed is tried again, and it may have been committed."""
    (match,) = _matches(store, 1)
    move = match_log.Move(0, "4", "", True)
    store.now(match_log.add_move, match, 0, move)
    store.now(match_log.add_move, match, 0, move)
    assert store.match(match).moves == (move,)
    assert store.now(match_log.finish_match, match, [1.0, -1.0], "finished") == store.now(
        match_log.finish_match, match, [0.0, 0.0], "left"
    )


def test_what_was_committed_unheard_is_found_again(store, database, monkeypatch):
    """The connection was lost after the commit and before its answer: no second match begins, which no player would be
    told of and whose clock would run out, and the new player's name is not taken by itself."""
    ids, lost, write = [store.add_player(name, "model")[0].id for name in "ab"], [], database.write

    @contextlib.contextmanager
    def unheard():
        with write() as connection:
            yield connection
        lost.append(1)
        if len(lost) % 2:
            raise OperationalError("COMMIT", {}, Exception("the connection was closed"))

    monkeypatch.setattr(database, "write", unheard)
    match = store.now(match_log.start_match, "g", 7, ids)
    player, token = store.add_player("c", "model")
    assert len(lost) == 4
    assert [one.id for one in store.unfinished()] == [match]
    assert store.player_by_token(token) == player
    assert store.now(match_log.start_match, "g", 8, ids) != match


def test_what_cannot_be_written_when_the_arena_closes_is_told(store, outage, monkeypatch):
    """A stop waits for the database, but not for ever."""
    monkeypatch.setattr("spiral.arena.writing.CLOSE_S", 0.1)
    outage.set()
    answer = store._writer.submit(match_log.unqueued, 1)
    store.close()
    with pytest.raises(SpiralError, match="did not answer before the arena closed"):
        answer.result(5)
    with pytest.raises(SpiralError, match="the arena closes"):
        store._writer.submit(match_log.unqueued, 1).result(5)
