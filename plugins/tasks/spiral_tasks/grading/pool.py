"""Processes that grade what may hang, take all memory or run as a program: a limit ends the work, not only the wait.

Plain subprocesses, not `multiprocessing`: a process with threads and a GPU may not fork, and the end of a pipe ends a
worker even where its parent was killed. A limit counts the worker's own seconds on a processor, so that a busy machine
does not turn right answers into wrong ones.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spiral import SpiralError

CPU_S = 3.0
"""Seconds of a processor that one grade may take."""
WALL_S = 25.0
"""Seconds that one grade may take in all where it waits, such as one that sleeps; below what a turn of a game may. One
that computes, or would if the machine had a processor for it, goes on to its limit of processor time."""
START_S = 600.0
"""Seconds in which a worker has to begin: it imports sympy, on a machine that may be busy."""
MAX_WORKERS = 8


class Ungraded(Exception):
    """A worker gave no grade: it ran past a limit or died, and is of no more use."""


class Raised(Ungraded):
    """A grader raised an error of Python; its worker is as good as before."""


class NotBegun(Ungraded):
    """A worker did not come to the reply, which therefore is not to blame."""


class Unprepared(NotBegun):
    """What a grader needs raised an error, such as an import; its worker is as good as before."""


class Worker:
    """One process; `ask` is for one thread at a time."""

    def __init__(self, kinds: Iterable[str] = ()) -> None:
        """`kinds`: the graders whose imports it begins with."""
        # With this process's own path, which an environment variable does not tell.
        code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from spiral_tasks.grading import worker"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{code}; worker.main(sys.argv[2:])", json.dumps(sys.path), *kinds],
            bufsize=0,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # what is drawn from a set of strings is the same everywhere
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, kind: str, args: tuple[Any, ...], cpu_s: float, wall_s: float) -> Any:
        """What the job `kind` gives. Raises Ungraded, and the SpiralError of the job."""
        assert self._process.stdin is not None
        job = json.dumps([kind, cpu_s, *args]).encode("ascii") + b"\n"
        try:
            while job:
                job = job[self._process.stdin.write(job) or 0 :]
        except OSError as error:
            raise NotBegun("died before it began") from error
        try:
            line = self._line(START_S, f"did not start within {START_S:g} s", "died before it began")
        except Ungraded as error:
            raise NotBegun(str(error)) from error
        if line == b"begins":
            line = self._line(wall_s, f"took more than {wall_s:g} s", "ran past the limit of processor time or memory")
        answer = json.loads(line)
        if "told" in answer:
            raise SpiralError(answer["told"])
        if "unprepared" in answer:
            raise Unprepared(f"cannot begin ({answer['unprepared']})")
        if "error" in answer:
            raise Raised(answer["error"])
        return answer["grade"]

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self.abandon()
        self._process.wait()

    def abandon(self) -> None:
        """Close the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _computes(self) -> bool:
        """Whether it has a processor or waits for one; not known, and False, where the system does not say."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "R"
        except OSError:
            return False

    def _line(self, within_s: float, late: str, ended: str) -> bytes:
        """The next one. Raises Ungraded, with `late` where none comes and `ended` where the process ends."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + within_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([descriptor], [], [], max(0.05, deadline - time.monotonic()))
            if not ready:
                if self._computes() and time.monotonic() < deadline + START_S:
                    continue
                raise Ungraded(late)
            part = os.read(descriptor, 65536)
            if not part:
                raise Ungraded(ended)
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line


class Pool:
    """Up to `size` workers, made as they are needed; any thread may ask."""

    def __init__(self, size: int = 0, cpu_s: float = CPU_S, wall_s: float = WALL_S) -> None:
        self._size = size or min(MAX_WORKERS, os.cpu_count() or 1)
        self._cpu_s, self._wall_s = cpu_s, wall_s
        self._kinds: dict[str, None] = {}
        self._reset()

    def prepare(self, kind: str) -> None:
        """Start a worker, if there is none, that imports what the grader `kind` needs; returns at once."""
        self._kinds[kind] = None
        with self._lock:
            if not self._workers:
                self._workers.append(Worker(list(self._kinds)))
                self._idle.append(self._workers[-1])

    def ask(self, kind: str, *args: Any) -> Any:
        """What the grader `kind` of `spiral_tasks.grading.worker` says of JSON values. Raises Ungraded, and of that
        NotBegun where two workers, one after the other, did not come to them."""
        self._kinds[kind] = None
        try:
            return self._asked(kind, args)
        except Unprepared:
            raise
        except NotBegun:  # ended between two jobs, such as by a machine without memory
            return self._asked(kind, args)

    def _asked(self, kind: str, args: tuple[Any, ...]) -> Any:
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            while worker is not None and not worker.is_alive():  # ended while it had nothing to do
                self._forget(worker)
                with self._lock:
                    worker = self._idle.pop() if self._idle else None
            if worker is None:
                worker = self._made()
            try:
                grade = worker.ask(kind, args, self._cpu_s, self._wall_s)
            except (Raised, Unprepared, SpiralError):
                self._give_back(worker)
                raise
            except BaseException:
                # It may be at work still, and its late grade would be taken for the next one's. The one in its place
                # begins with its imports while nothing is asked of it.
                self._forget(worker)
                self._give_back(self._made())
                raise
            self._give_back(worker)
            return grade

    @property
    def num_alive(self) -> int:
        """The workers that live."""
        with self._lock:
            return sum(worker.is_alive() for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """The workers' processes."""
        with self._lock:
            return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End every worker."""
        with self._lock:
            workers = list(self._workers)
            self._workers.clear()
            self._idle.clear()
        for worker in workers:
            worker.kill()

    def after_fork(self) -> None:
        """In a forked child: the workers answer to the parent alone."""
        for worker in self._workers:
            worker.abandon()
        self._reset()

    def _reset(self) -> None:
        self._lock, self._free = threading.Lock(), threading.Semaphore(self._size)
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []

    def _made(self) -> Worker:
        worker = Worker(list(self._kinds))
        with self._lock:
            self._workers.append(worker)
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
        worker.kill()


@functools.cache
def pool() -> Pool:
    """That of this process, which ends with it. Raises SpiralError for a number of workers that is none."""
    text = os.environ.get("SPIRAL_TASKS_WORKERS", "0")
    if not text.isdecimal():
        raise SpiralError(f"SPIRAL_TASKS_WORKERS is {text!r}; give the number of processes that grade, such as 2")
    made = Pool(int(text))
    atexit.register(made.close)
    os.register_at_fork(after_in_child=made.after_fork)
    return made
