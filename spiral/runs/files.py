"""Atomic, synced writes: whatever is killed or runs out of disk, a file is the old one or the new one.

A directory is too, once `recover_directory` was asked: no single rename replaces one that is not empty.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: Path, text: str, shared: bool = False) -> None:
    """Replace a text file, in UTF-8; `shared` as for `replace_file`."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), shared)


def replace_file(path: Path, write: Callable[[Path], object], shared: bool = False) -> None:
    """Replace a file by what `write` puts at the path that it is given.

    `shared`: whether several processes may write it at once. Otherwise the unfinished file has one name, so that what a
    killed process left is swept away by the process that resumes.
    """
    own = f".{os.getpid()}" if shared else ""
    # A folder of its own, since safetensors leaves an unfinished file of another name beside its target when it is
    # killed; in the same directory as the target, since a rename across file systems is not atomic.
    folder = path.with_name(f".{path.name}{own}.tmp")
    if folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        write(folder / path.name)
        _sync(folder / path.name)
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _sync(path.parent)


def replace_directory(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a directory by what `write` puts into the empty one that it is given, beside it."""
    temporary, before = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    for left_over in (temporary, before):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    # The contents must be on disk before the rename that makes them count.
    for file in [p for p in temporary.rglob("*") if p.is_file()]:
        _sync(file)
    if path.exists():  # moved first, not deleted: a kill in the middle must not leave half of it under its name
        os.rename(path, before)
    os.rename(temporary, path)
    _sync(path.parent)
    shutil.rmtree(before, ignore_errors=True)


def remove_directory(path: Path) -> None:
    """Delete a directory; a kill in the middle leaves nothing under its name."""
    gone = path.with_name(f".{path.name}.gone")  # not `.old`, which `recover_directory` would bring back half deleted
    os.rename(path, gone)
    shutil.rmtree(gone)


def recover_directory(path: Path) -> None:
    """Undo a replacement that was killed between its two renames: the old directory has its name again."""
    before = path.with_name(f".{path.name}.old")
    if before.is_dir() and not path.exists():
        with contextlib.suppress(FileNotFoundError):  # another process of the run was faster
            os.rename(before, path)


def _sync(path: Path) -> None:
    if path.is_dir():
        # Some network file systems, and Windows, cannot sync a directory; there the rename alone has to do.
        with contextlib.suppress(OSError):
            _fsync(path, os.O_RDONLY)
    else:
        _fsync(path, os.O_RDWR)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
