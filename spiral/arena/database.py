"""The arena's tables, and transactions on them: SQLite in a file, or PostgreSQL by its address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlalchemy import (
    JSON,
    URL,
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
    inspect,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from spiral.api.errors import SpiralError
from spiral.arena import postgresql, sqlite
from spiral.arena.migrations import upgrade

BUSY_S = 30
"""How long a transaction waits for another one's write."""
DOWN = (OperationalError, InterfaceError, InternalError, NoConnection, OSError)
"""Errors of the database, and not of what is asked of it: the same may be asked again."""
MAX_NUMBER = 2**31 - 1
"""The largest that a column of numbers takes: PostgreSQL refuses to compare one with more."""
MAX_NAME = 200
"""Characters of the name of a player of the house, which may be a path, and of a game's label with its arguments."""

METADATA = MetaData()

players = Table(
    "players", METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(MAX_NAME), nullable=False, unique=True),
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
    Column("game", String(MAX_NAME), nullable=False),  # its label, with arguments
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

move_tokens = Table(  # of replies by policies of the house; apart from the moves, which are read far more often
    "move_tokens", METADATA,
    Column("match", Integer, ForeignKey("matches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("length", Integer, nullable=False),  # of the reply, in tokens, of which the first may not be kept
    Column("logprob", Float, nullable=False),  # of the whole reply
    Column("tokens", JSON, nullable=False),  # [text, log-probability, put there by the prompt format] each
)  # fmt: skip

ratings = Table(
    "ratings", METADATA,
    Column("player", Integer, ForeignKey("players.id"), primary_key=True),
    Column("game", String(MAX_NAME), primary_key=True),  # empty: over all games
    Column("mu", Float, nullable=False),
    Column("sigma", Float, nullable=False),
    Column("matches", Integer, nullable=False),
    Index("ratings_by_game", "game", "mu"),
)  # fmt: skip

rating_changes = Table(
    "rating_changes", METADATA,
    Column("match", Integer, ForeignKey("matches.id"), primary_key=True),
    Column("seat", Integer, primary_key=True),
    Column("game", String(MAX_NAME), primary_key=True),
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

    def __init__(self, url: str, *, serves: bool = False, exists: bool = False) -> None:
        """Opens it, and makes the tables that are missing. `serves`: for a server, of which a database has one.
        `exists`: it has to be that of an arena already. Raises SpiralError for an address that leads nowhere, and
        where another server runs."""
        with ExitStack() as opening:
            try:
                address = _parsed(url)
                self._reads, self._writes = self._opened(address, serves, exists, opening)
                with self.write() as connection:
                    if address.get_backend_name() == "postgresql":
                        postgresql.checked_encoding(connection)
                    if exists and not inspect(connection).has_table("alembic_version"):
                        raise SpiralError(f"there is no arena in {_shown(url)}; give the --db of the arena")
                    upgrade(connection, METADATA)
            except ModuleNotFoundError as error:
                raise SpiralError(
                    f"the database {_shown(url)} needs {error.name}, which is not installed; "
                    'pip install "spiral-selfplay[arena-postgresql]", and give --db postgresql://USER@HOST/NAME'
                ) from error
            except (ArgumentError, DBAPIError, ValueError, OSError) as error:
                raise SpiralError(
                    f"the database {_shown(url)} cannot be opened ({_reason(error)}); give --db sqlite:///FILE, or "
                    "postgresql://USER@HOST/NAME of one that createdb has made"
                ) from error
            self._closing = opening.pop_all()

    def _opened(self, url: URL, serves: bool, exists: bool, opening: ExitStack) -> tuple[Engine, Engine]:
        """What reads and what writes."""
        if url.get_backend_name() == "postgresql":
            reads, writes = postgresql.reading(url), postgresql.writing(url, BUSY_S, serves)
            opening.callback(reads.dispose)
        else:
            if exists and not Path(url.database or "").is_file():
                raise SpiralError(f"there is no database {url.database}; give the --db of the arena")
            if serves and url.database:
                opening.enter_context(closing(sqlite.server_lock(url.database)))
            reads = writes = sqlite.opened(url, BUSY_S)
        opening.callback(writes.dispose)
        return reads, writes

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that changes nothing. Raises NoAnswer."""
        try:
            with self._reads.connect() as connection, connection.begin():
                yield connection
        except DOWN as error:
            raise NoAnswer("the arena's database does not answer; try again in a moment") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change the tables; what it reads stays true until it ends. Raises one of `DOWN`, and
        ServerRuns for a server that was away from its database while another one was started."""
        with self._writes.connect() as connection:
            connection.info["writes"] = True
            try:
                with connection.begin():
                    yield connection
            finally:
                connection.info.pop("writes", None)

    def close(self) -> None:
        """Close all connections, and leave the database to another server."""
        self._closing.close()


def storable(text: str) -> str:
    """The text with half characters and NULs replaced: no database takes those."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def sqlite_file(url: str) -> str | None:
    """The file of a database; None for one that is in memory or behind another address."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    return parsed.database if parsed.get_backend_name() == "sqlite" else None


def _parsed(url: str) -> URL:
    """Raises ArgumentError, and ValueError for a port that is none."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ArgumentError(f"{parsed.get_backend_name()} is neither SQLite nor PostgreSQL")
    return parsed


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error).splitlines()[0]


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return repr(url)
