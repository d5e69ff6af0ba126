"""PostgreSQL as the arena's database: its connections, one writer at a time, and one server at a time.

Both locks are advisory ones of the database, so they hold between machines and end with the session that has them.
"""

from __future__ import annotations

import secrets
import shlex
import time
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from spiral.api.errors import SpiralError

CONNECT_S = 10
"""How long a connection may take to be made."""
LOST_S = 60
"""After which each end of a connection that nothing comes over any more takes it for lost."""
START_S = 5.0
"""How long a server waits for the lock of one before it: the database hears of a killed process a little later."""

_CLASS = 0x73706972
"""What sets the arena's advisory locks apart from those of other programs in the same database."""
_WRITES, _SERVES = 1, 2

_HOLDER = f"""
    SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'the same machine')
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {_CLASS} AND l.objid = {_SERVES}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class ServerRuns(SpiralError):
    """Raised where another server has the database."""


def reading(url: URL) -> Engine:
    """Connections whose transactions see one state of the tables, and can change none."""
    options = {"isolation_level": "REPEATABLE READ", "connect_args": _connection_options(url)}
    return create_engine(url, pool_pre_ping=True, execution_options={"postgresql_readonly": True}, **options)


def writing(url: URL, busy_s: float, serves: bool) -> Engine:
    """One connection, whose transactions come one after another with those of all other programs; each waits up to
    `busy_s`. `serves`: it is that of the one server of the database, which no other has meanwhile."""
    # Each statement of a transaction sees what was committed before it began, and nothing is while it holds the lock.
    options = {"isolation_level": "READ COMMITTED", "connect_args": _connection_options(url)}
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, **options)
    own = f"spiral arena {secrets.token_hex(8)}"
    begun = time.monotonic()

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        idle = f"SET tcp_keepalives_idle = {LOST_S // 2}; SET tcp_keepalives_interval = {LOST_S // 6};"
        with connection.cursor() as cursor:
            cursor.execute(f"{idle} SET tcp_keepalives_count = 3; SET lock_timeout = '{busy_s:g}s'")
            cursor.execute("SELECT set_config('application_name', %s, false)", [own])
        connection.commit()
        if serves:
            # The lock is one of the session that writes: what is written after it was lost is written by no session.
            _become_server(connection, own, max(0.0, begun + START_S - time.monotonic()))

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CLASS}, {_WRITES})")

    return engine


def checked_encoding(connection: Connection) -> None:
    """Raises SpiralError for a database that cannot hold all letters, as one that was made without a language."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise SpiralError(
            f"the database has the encoding {encoding}, and names and moves may have any letter; make it with "
            "createdb --encoding=UTF8 --template=template0 NAME"
        )


def dump_command(url: URL, file: str) -> str:
    """What copies the database while it is in use."""
    return shlex.join(["pg_dump", "--format=custom", f"--file={file}", f"--dbname={_for_libpq(url)}"])


def restore_command(url: URL, file: str) -> str:
    """What puts such a copy in the place of the database."""
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction", f"--dbname={_for_libpq(url)}"]
    return shlex.join(["pg_restore", *options, file])


def _for_libpq(url: URL) -> str:
    """Without the driver, which is Python's, and without the password, which every user could read in the list of
    processes; PostgreSQL's programs ask for it, or find it in ~/.pgpass."""
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return plain.render_as_string(hide_password=False)


def _connection_options(url: URL) -> dict[str, Any]:
    options = {
        "connect_timeout": CONNECT_S, "keepalives_idle": LOST_S // 2, "keepalives_interval": LOST_S // 6,
        "keepalives_count": 3, "tcp_user_timeout": 1000 * LOST_S,
    }  # fmt: skip
    return {name: value for name, value in options.items() if name not in url.query}


def _become_server(connection: Any, own: str, wait_s: float) -> None:
    """Take the server's lock for this session. Raises ServerRuns; and the driver's own error, after which it is tried
    again, where it is a session of this process that has it, one whose connection was lost."""
    end = time.monotonic() + wait_s
    try:
        with connection.cursor() as cursor:
            while True:
                (taken,) = cursor.execute(f"SELECT pg_try_advisory_lock({_CLASS}, {_SERVES})").fetchone()
                connection.commit()
                if taken:
                    return
                holder = cursor.execute(_HOLDER).fetchone()
                if holder is not None and holder[1] == own:
                    cursor.execute("SELECT pg_terminate_backend(%s)", [holder[0]])
                elif time.monotonic() > end:
                    where = "elsewhere" if holder is None else f"on {holder[2]}"
                    raise ServerRuns(
                        f"an arena runs on this database already, {where}; stop it first, or give another --db"
                    )
                connection.commit()
                time.sleep(0.1)
    except BaseException:
        connection.close()
        raise
