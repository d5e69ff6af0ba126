"""The lock of a run's directory: one process writes there, and the kernel gives it back when that one dies."""

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
def locked(run: Path, use: str = "being trained", option: str = "--run-dir") -> Iterator[None]:
    """Hold a run's directory, which is made where there is none. Raises RunError if another process holds it, or if it
    cannot be made. Who only reads needs no lock.

    `use`, `option`: for the error, what a process does that holds it, and what names another directory.
    """
    descriptor = _opened(run, use, option)
    try:
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened(run: Path, use: str, option: str) -> int:
    """The lock file's descriptor, locked. Not inherited by processes that this one starts, which may outlive it."""
    path = run / NAME
    while True:
        try:
            run.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"{run} cannot be written ({error.strerror}); give another {option}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that failed at its start removes its directory: what was locked must be what is there now.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
            os.close(descriptor)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                log.warning("%s is on a file system without locks, so two processes could use it at once", run)
                return descriptor
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").split()
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            who = f"process {holder[0]} on {holder[1]}" if len(holder) == 2 else "another process"
            raise RunError(
                f"{run} is {use} by {who}; wait for its end or stop it first, or give another {option}"
            ) from error
