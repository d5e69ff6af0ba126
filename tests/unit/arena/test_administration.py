"""What an administrator does, by the command line on the database, and copies of it under writes."""

import asyncio
import contextlib
import os
import shlex
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, inspect, text

from spiral.api.errors import SpiralError
from spiral.arena import match_log, rating_log
from spiral.arena.backup import back_up, restore
from spiral.arena.database import Database
from spiral.arena.store import Store
from spiral.commands.main import main

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def admin(url):
    """Runs a command; exit code and what it said."""

    def run(*words):
        done = CliRunner().invoke(main, ["arena-admin", "--db", url, *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def _played(store, *returns):
    """Matches of a and b, one for each return of a."""
    players = [store.add_player(name, "model")[0].id for name in "ab"]
    for value in returns:
        store.now(
            match_log.finish_match, store.now(match_log.start_match, "g", 0, players), [value, -value], "finished"
        )
    return players


def test_a_match_that_is_voided_counts_no_more(admin, store, database):
    """The ratings are those of the other matches, and the check agrees; a second time is refused."""
    _played(store, 1.0, -1.0, 1.0)
    assert admin("check") == (0, "the ratings are what the matches give\n")
    assert admin("void", "2") == (0, "match 2 is void; the ratings were computed again\n")
    assert [one.matches for one in store.leaderboard("g")] == [2, 2]
    assert store.match(2).status == "voided"
    assert admin("check")[0] == 0
    assert "was voided already" in admin("void", "2")[1]
    assert admin("void", "9") == (2, "spiral: there is no match 9\n")


def test_the_check_finds_a_match_that_was_rated_twice(admin, store, database):
    """As it finds one that was lost."""
    _played(store, 1.0, 1.0)
    with database.write() as connection:
        connection.execute(text("UPDATE ratings SET mu = mu + 1, matches = 3 WHERE player = 1 AND game = 'g'"))
    code, said = admin("check")
    assert (code, "1 ratings are not what the matches give: player 1 in 'g'" in said) == (2, True)


def test_a_banned_player_is_let_in_nowhere(admin, store):
    """Its matches stay in the ratings of the others."""
    player, token = store.add_player("mallory", "person")
    (other,) = [store.add_player("ann", "person")[0]]
    store.now(
        match_log.finish_match, store.now(match_log.start_match, "g", 0, [player.id, other.id]), [1.0, -1.0], "finished"
    )
    assert admin("ban", "mallory") == (0, "mallory is shut out\n")
    assert store.player_by_token(token) is None
    with pytest.raises(SpiralError, match="has shut you out"):  # on a connection that was open before
        asyncio.run(store.later(match_log.queued, player.id, ["g"], 0.0))
    assert [one.player.name for one in store.leaderboard("g")] == ["ann"]
    assert "mallory" in admin("players", "MAL")[1]
    assert "banned" in admin("players")[1]
    assert admin("ban", "mallory", "--undo")[0] == 0
    assert store.player_by_token(token) == player
    assert admin("ban", "nobody") == (2, "spiral: there is no player 'nobody'; see spiral arena-admin players\n")


def test_a_player_is_renamed(admin, store):
    """Only to what is a name, and not to that of another player."""
    player, token = store.add_player("rude", "person")
    store.add_player("ann", "person")
    assert admin("rename", "rude", "polite")[0] == 0
    assert store.player_by_token(token).name == "polite"
    assert "is taken" in admin("rename", "polite", "ann")[1]
    assert "a name has 1 to 32 letters" in admin("rename", "polite", "<b>")[1]
    for what_is_no_letter in ("\udcff", "\0"):  # of an argument in another encoding
        assert "there is no player" in admin("rename", what_is_no_letter, "ann")[1]
        assert "there is no player" in admin("ban", what_is_no_letter)[1]
        assert admin("players", what_is_no_letter) == (0, "")


def test_names_are_listed_as_text(admin, store):
    """A name from before the rule, or from another program, steers no terminal."""
    store.add_player("a\x1b[31m\u202eb", "model")
    assert r"a\x1b[31m\u202eb" in admin("players")[1]


def test_a_command_needs_the_database_of_an_arena(tmp_path):
    """None is made by a wrong name, and no tables in the database of another program."""
    done = CliRunner().invoke(main, ["arena-admin", "--db", f"sqlite:///{tmp_path / 'none.db'}", "players"])
    assert (done.exit_code, "there is no database" in done.output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_command_makes_no_tables_in_another_database(postgres_server):
    """Such as by a wrong name."""
    url = postgres_server.database()
    done = CliRunner().invoke(main, ["arena-admin", "--db", url, "players"])
    assert (done.exit_code, "there is no arena in postgresql://" in done.output) == (2, True)
    with create_engine(url).connect() as connection:
        assert inspect(connection).get_table_names() == []


def test_postgresql_is_copied_by_the_command_that_is_told(postgres_server, tmp_path, monkeypatch):
    """In use, and put into the place of the database by the other command that is told; the password is in neither."""
    url, copy = postgres_server.database(), tmp_path / "arena.dump"
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("PATH", f"{Path(postgres_server.program('psql')).parent}:{os.environ['PATH']}")

    def told(word):
        done = CliRunner().invoke(main, ["arena-admin", "--db", url, word, str(copy)])
        assert (done.exit_code, "secret" in done.output) == (2, False)
        assert len(done.output.splitlines()) == 1
        command = done.output.partition("in use: ")[2] or done.output.partition("runs: ")[2]
        return subprocess.run(shlex.split(command), check=True, capture_output=True)

    database = Database(url)
    store = Store(database)
    players = _played(store, 1.0)
    told("backup")
    store.now(match_log.finish_match, store.now(match_log.start_match, "g", 0, players), [1.0, -1.0], "finished")
    store.close()
    database.close()
    told("restore")
    database = Database(url)
    assert [one.matches for one in Store(database).leaderboard("g")] == [1, 1]
    database.close()


@SQLITE
def test_a_backup_under_writes_holds_what_was_committed_before(url, store, database, tmp_path):
    """Twenty times while a thread plays: each is sound, its ratings are those of its matches, and the last match that
    was known to have ended is in it."""
    players, stop, ended = _played(store), threading.Event(), [0]

    def play():
        while not stop.is_set():
            match = store.now(match_log.start_match, "g", 0, players)
            store.now(match_log.finish_match, match, [1.0, -1.0], "finished")
            ended[0] = match

    thread = threading.Thread(target=play)
    thread.start()
    try:
        for n in range(20):
            known, copy = ended[0], tmp_path / f"copy{n}.db"
            assert back_up(url, copy).endswith("sound")
            opened = Database(f"sqlite:///{copy}")
            with opened.read() as connection:
                assert rating_log.differences(connection) == []
            found = Store(opened)
            assert known == 0 or found.match(known).status == "finished"
            found.close()
            opened.close()
    finally:
        stop.set()
        thread.join()


@SQLITE
def test_a_backup_is_restored_without_what_was_written_later(url, admin, tmp_path):
    """What the write-ahead file of the old database held does not come into the new one; and not while a server
    runs."""
    database = Database(url)
    store = Store(database)
    players = _played(store, 1.0)
    copy = tmp_path / "copy.db"
    assert admin("backup", str(copy)) == (0, f"{copy}: 2 players, 1 matches, sound\n")
    assert "exists already" in admin("backup", str(copy))[1]
    store.now(match_log.finish_match, store.now(match_log.start_match, "g", 0, players), [1.0, -1.0], "finished")
    store.close()
    with contextlib.closing(Database(url, serves=True)):
        assert "an arena runs on" in admin("restore", str(copy))[1]
    database.close()
    (tmp_path / "arena.db-wal").write_bytes(b"left by a killed server")
    assert restore(url, copy) == "2 players, 1 matches, sound"
    database = Database(url)
    assert [one.matches for one in Store(database).leaderboard("g")] == [1, 1]
    database.close()


@SQLITE
def test_a_file_that_is_no_backup_replaces_nothing(url, admin, store, tmp_path):
    """It is checked before it is moved."""
    _played(store, 1.0)
    (tmp_path / "bad.db").write_bytes(b"x" * 5000)
    assert "is no database of an arena" in admin("restore", str(tmp_path / "bad.db"))[1]
    assert admin("check")[0] == 0
