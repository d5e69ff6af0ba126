"""The lock of a run's directory, or of a file: one process writes, and the kernel gives the lock back when it dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spiral.api.errors import RunError
from spiral.api.text import printable_logger

NAME = ".lock"
"""The file in a run's directory; it stays when the run ends, and says nothing then."""

log = printable_logger(__name__)


@contextmanager
def locked(what: Path, use: str = "being trained", option: str = "--run-dir", beside: bool = False) -> Iterator[None]:
    """Hold a run's directory, which is made where there is none. Raises RunError if another process holds it, or if it
    cannot be made. Who only reads needs no lock.

    `use`, `option`: for the error, what a process does that holds it, and what names another directory. `beside`: hold
    a file instead, which need not be there; its lock lies beside it, and the directory of both is made.
    """
    descriptor = _opened(what, what.with_name(f".{what.name}{NAME}") if beside else what / NAME, use, option)
    try:
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened(what: Path, path: Path, use: str, option: str) -> int:
    """The descriptor of the lock file `path`, locked. Not inherited by processes that this one starts, which may
    outlive it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"{what} cannot be written ({error.strerror}); give another {option}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that failed at its start removes its directory: what was locked must be what is there now.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
            os.close(descriptor)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                log.warning("%s is on a file system without locks, so two processes could use it at once", what)
                return descriptor
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").split()
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            who = f"process {holder[0]} on {holder[1]}" if len(holder) == 2 else "another process"
            raise RunError(
                f"{what} is {use} by {who}; wait for its end or stop it first, or give another {option}"
            ) from error
