"""The arena's tables, and transactions on them: SQLite in a file, or PostgreSQL by its address."""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from spiral.api.errors import SpiralError
from spiral.arena.migrations import upgrade

BUSY_S = 30
"""How long a transaction waits for another one's write."""

METADATA = MetaData()

players = Table(
    "players", METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # person, guest, model, house
    Column("description", Text, nullable=False, default=""),
    Column("rated_as", Integer, ForeignKey("players.id")),  # guests: the one entry of all people; else null
    Column("created", Float, nullable=False),
    Column("banned", Boolean, nullable=False, default=False),
)  # fmt: skip

tokens = Table(
    "tokens", METADATA,
    Column("hash", String(64), primary_key=True),  # SHA-256: the token itself is known to its holder alone
    Column("player", Integer, ForeignKey("players.id"), nullable=False),
    Column("created", Float, nullable=False),
)  # fmt: skip

matches = Table(
    "matches", METADATA,
    Column("id", Integer, primary_key=True),
    Column("game", String(200), nullable=False),  # its label, with arguments
    Column("seed", Integer, nullable=False),
    Column("status", String(16), nullable=False),  # playing, finished, voided
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("ended_as", Integer, unique=True),  # the how-manieth match that ended: ratings were updated in this order
    Column("ending", String(16)),  # finished, illegal, timeout, left, cut; of a voided match its cause
    Column("offender", Integer),  # the seat whose fault the end was
    Column("returns", JSON),
    Column("rated", Boolean, nullable=False, default=False),
    Index("matches_by_game", "game", "ended_as"),
)  # fmt: skip

seats = Table(
    "seats", METADATA,
    Column("match", Integer, ForeignKey("matches.id"), primary_key=True),
    Column("seat", Integer, primary_key=True),
    Column("player", Integer, ForeignKey("players.id"), nullable=False),
    Index("seats_by_player", "player", "match"),
)  # fmt: skip

moves = Table(
    "moves", METADATA,
    Column("match", Integer, ForeignKey("matches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("seat", Integer, nullable=False),
    Column("move", Text, nullable=False),
    Column("said", Text, nullable=False, default=""),  # all that was written, the move in it
    Column("legal", Boolean, nullable=False),
    Column("made", Float, nullable=False),
)  # fmt: skip

ratings = Table(
    "ratings", METADATA,
    Column("player", Integer, ForeignKey("players.id"), primary_key=True),
    Column("game", String(200), primary_key=True),  # empty: over all games
    Column("mu", Float, nullable=False),
    Column("sigma", Float, nullable=False),
    Column("matches", Integer, nullable=False),
    Index("ratings_by_game", "game", "mu"),
)  # fmt: skip

rating_changes = Table(
    "rating_changes", METADATA,
    Column("match", Integer, ForeignKey("matches.id"), primary_key=True),
    Column("seat", Integer, primary_key=True),
    Column("game", String(200), primary_key=True),
    Column("player", Integer, ForeignKey("players.id"), nullable=False),
    Column("mu_before", Float, nullable=False),
    Column("sigma_before", Float, nullable=False),
    Column("mu", Float, nullable=False),
    Column("sigma", Float, nullable=False),
)  # fmt: skip


waiting = Table(
    "waiting", METADATA,
    Column("player", Integer, ForeignKey("players.id"), primary_key=True),
    Column("games", JSON, nullable=False),
    Column("since", Float, nullable=False),
)  # fmt: skip


class NoAnswer(SpiralError):
    """Raised where the database does not answer."""


class Database:
    """Transactions: `read` sees one state of the tables, `write` is the only one that changes them meanwhile."""

    def __init__(self, url: str) -> None:
        """Opens it, and makes the tables that are missing. Raises SpiralError for an address that leads nowhere."""
        try:
            self._engine = _opened(url)
            with self.write() as connection:
                upgrade(connection, METADATA)
        except (ArgumentError, DBAPIError, ModuleNotFoundError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise SpiralError(
                f"the database {_shown(url)} cannot be opened ({reason}); give --db sqlite:///FILE or "
                "postgresql+psycopg://USER@HOST/NAME"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that changes nothing. Raises NoAnswer."""
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise NoAnswer("the arena's database does not answer; try again in a moment") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change the tables; what it reads stays true until it ends."""
        with self._engine.connect() as connection:
            connection.info["writes"] = True
            try:
                with connection.begin():
                    yield connection
            finally:
                connection.info.pop("writes", None)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _opened(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ")
    engine = create_engine(url, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `_begun` says, and not by the driver's guess
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # A transaction that reads first and writes later could not be made a writing one once another had written,
        # whatever it waits: the lock is taken before the first read.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("writes") else "BEGIN")

    return engine


def server_lock(url: str) -> IO[str]:
    """A file that is locked until it is closed, or until its process ends in any way: two servers on one database would
    both go on with its matches. Raises SpiralError where another server has it. Of another database than SQLite nothing
    is locked."""
    path = sqlite_file(url)
    if path is None:
        return io.StringIO()
    try:
        file = os.fdopen(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise SpiralError(
            f"the database {_shown(url)} cannot be opened ({error.strerror}); give --db sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/NAME"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise SpiralError(f"an arena runs on {path} already; stop it first, or give another --db") from error
    return file


def sqlite_file(url: str) -> str | None:
    """The file of a database; None for one that is in memory or behind another address."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    return parsed.database if parsed.get_backend_name() == "sqlite" else None


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)
