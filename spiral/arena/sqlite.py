"""SQLite as the arena's database: its connections, and a lock against a second server on the same file."""

from __future__ import annotations

import fcntl
import os
from typing import IO, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from spiral.api.errors import SpiralError


def opened(url: URL, busy_s: float) -> Engine:
    """Connections; a transaction that is begun while `connection.info["writes"]` is set has the only lock to write,
    for which it waits up to `busy_s`."""
    engine = create_engine(url, connect_args={"timeout": busy_s})

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


def server_lock(path: str) -> IO[str]:
    """A file that is locked until it is closed, or until its process ends in any way: two servers on one database would
    both go on with its matches. Raises SpiralError where another server has it, and OSError."""
    file = os.fdopen(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600), "w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise SpiralError(f"an arena runs on {path} already; stop it first, or give another --db") from error
    return file
