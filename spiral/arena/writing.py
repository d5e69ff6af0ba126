"""Writes of all callers by one thread: what is asked for while a transaction is committed goes into the next one.

So a commit to the disk is paid once for many moves, matches end in one order, and a database that does not answer holds
the writes back and loses none.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from spiral.api.errors import SpiralError
from spiral.api.text import printable_logger
from spiral.arena.database import DOWN, Database
from spiral.arena.postgresql import ServerRuns

MAX_TOGETHER = 256
"""Writes in one transaction at most, so that the first of them need not wait long."""
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0
"""Between two tries while the database does not answer: doubled up to the second."""
CLOSE_S = 5.0
"""How long what was asked for may still be written when the arena closes."""

P = ParamSpec("P")
T = TypeVar("T")
_logger = printable_logger(__name__)


@dataclass(frozen=True)
class _Asked:
    write: Callable[[Connection], Any]
    answer: Future[Any]


class Writer:
    """Does writes in the order in which they are asked for, each wholly or not at all."""

    def __init__(self, database: Database, replaced: Callable[[], None] | None = None) -> None:
        """`replaced`: called where another server has taken the database over, after which nothing is written."""
        self._database, self._replaced = database, replaced
        self._lost: ServerRuns | None = None
        """Set once the database is another server's: what that one does is not known here, so nothing is written even
        where it has ended by now."""
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="arena writes", daemon=True)
        self._thread.start()

    def submit(self, write: Callable[Concatenate[Connection, P], T], *args: P.args, **options: P.kwargs) -> Future[T]:
        """Its answer, once it is kept; or what it raised, and nothing of it is kept. A write may be done twice where
        the database failed while it committed, and has to bear that: the connection's `info["again"]` is set then."""
        answer: Future[T] = Future()
        if self._closing.is_set():
            answer.set_exception(SpiralError("the arena closes"))
        else:
            self._asked.put(_Asked(lambda connection: write(connection, *args, **options), answer))
        return answer

    def close(self) -> None:
        """Write what was asked for, and end. What the database does not take within `CLOSE_S` raises."""
        self._closing.set()
        self._asked.put(None)
        self._thread.join(2 * CLOSE_S)

    def _work(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._batch()
            # A caller that has gone away before its turn is left out; a started one cannot be cancelled any more.
            batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
            if batch:
                self._keep(batch)

    def _batch(self) -> tuple[list[_Asked], bool]:
        first = self._asked.get()
        batch: list[_Asked] = []
        while first is not None:
            batch.append(first)
            if len(batch) == MAX_TOGETHER or self._asked.empty():
                return batch, False
            first = self._asked.get()
        return batch, True

    def _keep(self, batch: Sequence[_Asked]) -> None:
        wait_s, since = FIRST_RETRY_S, time.monotonic()
        answers: list[Any]
        while True:
            try:
                answers = self._written(batch, again=wait_s > FIRST_RETRY_S)
                break
            except ServerRuns as error:
                answers = [error] * len(batch)
                self._end(error)
                break
            except DOWN as error:
                if wait_s == FIRST_RETRY_S:
                    _logger.warning("the database does not take %d writes (%s); they are kept back", len(batch), error)
                if self._closing.is_set() and time.monotonic() - since > CLOSE_S:
                    answers = [SpiralError("the database did not answer before the arena closed")] * len(batch)
                    break
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LAST_RETRY_S)
        if wait_s > FIRST_RETRY_S and not self._closing.is_set():
            _logger.warning("the database answers again after %.1f s", time.monotonic() - since)
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)

    def _end(self, error: ServerRuns) -> None:
        if self._lost is not None:
            return
        self._lost = error
        self._closing.set()
        _logger.error("this server has lost its database, and ends: %s", error)
        if self._replaced is not None:
            self._replaced()

    def _written(self, batch: Sequence[_Asked], again: bool) -> list[Any]:
        """The answers, or what was raised in their place; all of it is committed."""
        answers: list[Any] = []
        if self._lost is not None:
            raise self._lost
        with self._database.write() as connection:
            connection.info["again"] = again
            for asked in batch:
                try:
                    with connection.begin_nested():
                        answers.append(asked.write(connection))
                except DOWN:
                    raise
                except Exception as error:  # of this write alone, which its savepoint has undone
                    answers.append(error)
        return answers
