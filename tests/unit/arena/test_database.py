"""The database of an arena: its tables come by migrations alone, and one server has it."""

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from spiral.api.errors import SpiralError
from spiral.arena.database import METADATA, Database, NoAnswer, server_lock


def test_the_migrations_make_the_tables_that_the_program_knows(url):
    """A change of the tables without its revision shows here; write one with alembic's `revision`."""
    database = Database(url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_a_database_is_migrated_once(url):
    """Opened again it is as it was; one of a later version is refused, and unchanged."""
    Database(url).close()
    database = Database(url)
    with database.write() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0001"
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(SpiralError, match="changed by another version of spiral"):
        Database(url)


def test_one_server_has_a_database(url):
    """Two would both go on with its matches; the lock ends with the process that has it, in whatever way."""
    with server_lock(url), pytest.raises(SpiralError, match="an arena runs on .* already"):
        server_lock(url)
    server_lock(url).close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/a.db", "nodriver://x"])
def test_an_address_that_leads_nowhere_is_told(url):
    """One sentence with both kinds of address."""
    with pytest.raises(SpiralError, match="cannot be opened .*; give --db sqlite:///FILE or"):
        Database(url)


def test_a_read_that_gets_no_answer_says_so(url, tmp_path):
    """And not what the driver said."""
    database = Database(url)
    with sqlite3.connect(tmp_path / "arena.db") as other:
        other.execute("DROP TABLE waiting")
    with pytest.raises(NoAnswer, match="does not answer; try again"), database.read() as connection:
        connection.execute(text("SELECT * FROM waiting"))
    database.close()
