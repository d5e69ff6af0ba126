"""Atomic, synced writes: whatever is killed or runs out of disk, a file is the old one or the new one.

A directory is too, once `recover_directory` was asked: no single rename replaces one that is not empty. Every file that
spiral writes is written here or inside `writing`, so that a full disk is one sentence whatever library met it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spiral.api.errors import SpiralError

_FULL = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "no file may be so large there (`ulimit -f` tells the limit)",
}
_FORBIDDEN = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the disk is read-only",
}
"""The system's errors that are the state of a disk, and never the program's fault."""


class WriteError(SpiralError):
    """A file could not be written: the disk is full or must not be written to."""


@contextlib.contextmanager
def writing(path: Path, num_bytes: int) -> Iterator[None]:
    """Around what writes the file or directory `path`, of about `num_bytes` in all.

    Raises WriteError, with the size needed and the space there is, for a disk that is full or must not be written to.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number in _FORBIDDEN:
            raise WriteError(f"{path} cannot be written: {_FORBIDDEN[number]}; write elsewhere, or allow it") from error
        if number not in _FULL:
            raise
        folder = next(folder for folder in path.absolute().parents if folder.is_dir())
        raise WriteError(
            f"{path} cannot be written: {_FULL[number]}; it needs about {_size(num_bytes)}, and "
            f"{_size(shutil.disk_usage(folder).free)} are free in {folder}; make room there, or write elsewhere"
        ) from error


def cache_folder(name: str) -> Path:
    """Where results are kept for later runs, in SPIRAL_CACHE or ~/.cache/spiral; it need not be there yet."""
    return Path(os.environ.get("SPIRAL_CACHE", "~/.cache/spiral")).expanduser() / name


def is_free(path: Path) -> bool:
    """Whether a new folder can be written there: nothing is, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def make_directory(path: Path) -> None:
    """Make a directory and its parents, where they are not there."""
    with writing(path, 0):
        path.mkdir(parents=True, exist_ok=True)


def append(path: Path, data: bytes, sync: bool = False) -> None:
    """Add to a file; a process that is killed meanwhile leaves a part of it. `sync`: return when it is on disk."""
    with writing(path, len(data)), path.open("ab") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def write_atomic(path: Path, content: str | bytes, shared: bool = False) -> None:
    """Replace a file, text in UTF-8; `shared` as for `replace_file`."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    replace_file(path, lambda temporary: temporary.write_bytes(data), len(data), shared)


def replace_file(path: Path, write: Callable[[Path], object], num_bytes: int, shared: bool = False) -> None:
    """Replace a file by what `write` puts at the path that it is given, about `num_bytes`.

    `shared`: whether several processes may write it at once. Otherwise the unfinished file has one name, so that what a
    killed process left is swept away by the process that resumes.
    """
    with writing(path, num_bytes):
        _replace_file(path, write, shared)


def _replace_file(path: Path, write: Callable[[Path], object], shared: bool) -> None:
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


def unfinished(path: Path) -> Path:
    """Where `replace_directory` writes before it renames, for processes that write a part of it."""
    return path.with_name(f".{path.name}.tmp")


def replace_directory(path: Path, write: Callable[[Path], object], num_bytes: int) -> None:
    """Replace a directory by what `write` puts into the empty one that it is given, beside it; about `num_bytes`."""
    temporary, before = unfinished(path), path.with_name(f".{path.name}.old")
    for left_over in (temporary, before):
        shutil.rmtree(left_over, ignore_errors=True)
    with writing(path, num_bytes):
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            # The contents must be on disk before the rename that makes them count.
            for file in [p for p in temporary.rglob("*") if p.is_file()]:
                _sync(file)
            if path.exists():  # moved first, not deleted: a kill in the middle must not leave half of it under its name
                os.rename(path, before)
            os.rename(temporary, path)
        except Exception:
            shutil.rmtree(temporary, ignore_errors=True)  # half a checkpoint would keep a full disk full
            recover_directory(path)
            raise
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


def num_bytes(value: Any) -> int:
    """Of all tensors in nested mappings and lists; values of other kinds count as nothing."""
    if isinstance(value, Mapping):
        return sum(map(num_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(num_bytes, value))
    return int(getattr(value, "nbytes", 0))


def _system_error(error: BaseException) -> int | None:
    """The number of the system's error that `error` is, or that it was raised for."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.errno
        if told := re.search(r"\(os error (\d+)\)", str(seen)):  # as libraries in Rust say it, such as safetensors
            return int(told[1])
        seen = seen.__cause__ or seen.__context__  # torch.save raises an error of its own while the file's is handled
    return None


def _size(num: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num >= factor:
            return f"{num / factor:.3g} {unit}"
    return f"{num} bytes"


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
