"""Copies of a database in use, by SQLite's own interface: rows that are still in the write-ahead file are in them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import IO

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from spiral.api.errors import SpiralError
from spiral.arena import postgresql
from spiral.arena.database import Database, sqlite_file
from spiral.arena.sqlite import server_lock


def back_up(url: str, to: Path) -> str:
    """Copy the database into a file, which appears whole or not at all; a word on what is in it. Raises SpiralError for
    another database than SQLite, and for a copy that is not sound."""
    source = _existing(url, to)
    if to.exists():
        raise SpiralError(f"{to} exists already; name another file")
    part = to.with_name(f"{to.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(part)) as copy:
            # In one step, which reads one state of the database: in several it would begin again after each write.
            live.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, that can be moved
        told = _checked(part)
        _to_disk(part)
        os.replace(part, to)
        _to_disk(to.parent)
    except (sqlite3.Error, OSError) as error:
        raise SpiralError(f"{to} could not be written ({error}); the database is as it was") from error
    finally:
        part.unlink(missing_ok=True)
    return told


def restore(url: str, backup: Path) -> str:
    """Put a copy in the place of the database. Raises SpiralError while an arena runs on it, and for a copy that is not
    sound."""
    path = sqlite_file(url)
    if path is None:
        command = postgresql.restore_command(_postgresql(url), str(backup))
        raise SpiralError(f"PostgreSQL is restored by its own program, while no arena runs: {command}")
    if not backup.is_file():
        raise SpiralError(f"there is no file {backup}")
    with _locked(path):
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            shutil.copyfile(backup, part)
            told = _checked(part)
            _to_disk(part)
            # What these hold belongs to the database that goes, and would be written into the one that comes.
            for end in ("-wal", "-shm"):
                target.with_name(f"{target.name}{end}").unlink(missing_ok=True)
            os.replace(part, target)
            _to_disk(target.parent)
        finally:
            part.unlink(missing_ok=True)
        Database(url).close()  # brings the tables of an earlier version up to date
    return told


def _locked(path: str) -> closing[IO[str]]:
    try:
        return closing(server_lock(path))
    except OSError as error:
        raise SpiralError(f"{path} cannot be written ({error.strerror}); give the --db of the arena") from error


def _postgresql(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise SpiralError(f"{url!r} is no address of a database ({error}); give the --db of the arena") from error


def _existing(url: str, to: Path) -> str:
    path = sqlite_file(url)
    if path is None:
        command = postgresql.dump_command(_postgresql(url), str(to))
        raise SpiralError(f"PostgreSQL is copied by its own program, while it is in use: {command}")
    if not Path(path).is_file():
        raise SpiralError(f"there is no database {path}; give the --db of the arena")
    return path


def _checked(path: Path) -> str:
    try:
        with closing(sqlite3.connect(path)) as copy:
            sound = [row[0] for row in copy.execute("PRAGMA integrity_check")]
            foreign = copy.execute("PRAGMA foreign_key_check").fetchall()
            counts = [copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("players", "matches")]
    except sqlite3.Error as error:
        raise SpiralError(f"{path} is no database of an arena ({error})") from error
    if sound != ["ok"] or foreign:
        raise SpiralError(f"{path} is not sound: {'; '.join(sound[:3])}, {len(foreign)} rows refer to none")
    return f"{counts[0]} players, {counts[1]} matches, sound"


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
