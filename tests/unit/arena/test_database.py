"""The database of an arena: its tables come by migrations alone, and one server has it."""

import contextlib

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from spiral.api.errors import SpiralError
from spiral.arena import postgresql
from spiral.arena.database import METADATA, Database, NoAnswer


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
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0002"
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(SpiralError, match="changed by another version of spiral"):
        Database(url)


def test_one_server_has_a_database(url, monkeypatch):
    """Two would both go on with its matches; the lock ends with the process that has it, in whatever way. Who only
    reads, or administers, needs none."""
    monkeypatch.setattr(postgresql, "START_S", 0.0)
    with contextlib.closing(Database(url, serves=True)):
        with pytest.raises(SpiralError, match="an arena runs on .* already"):
            Database(url, serves=True)
        Database(url).close()
    Database(url, serves=True).close()


@pytest.mark.parametrize(
    "address",
    [
        "nonsense", "sqlite:////no/such/folder/a.db", "nodriver://x", "mysql://x/y", "postgresql://x:port/y",
        "postgresql://arena@127.0.0.1:1/nothing_listens",
    ],
)  # fmt: skip
@pytest.mark.parametrize("serves", [False, True])
def test_an_address_that_leads_nowhere_is_told(address, serves):
    """One sentence with both kinds of address."""
    with pytest.raises(SpiralError, match="cannot be opened .*; give --db sqlite:///FILE, or postgresql://") as told:
        Database(address, serves=serves)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_read_that_gets_no_answer_says_so(url):
    """And not what the driver said."""
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("DROP TABLE waiting"))
    with pytest.raises(NoAnswer, match="does not answer; try again"), database.read() as connection:
        connection.execute(text("SELECT * FROM waiting"))
    database.close()
