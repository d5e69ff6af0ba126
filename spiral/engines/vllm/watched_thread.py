"""A thread that makes calls for another one, which waits for each no longer than a deadline.

What hangs inside a compiled library can be neither interrupted nor asked; who waits for it can go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from spiral.api.errors import RunError

_T = TypeVar("_T")


class Hung(RunError):
    """A call did not return within its deadline; its thread is lost, and takes no other."""


class WatchedThread:
    """Calls are made one after another, in the order in which they were asked for."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        # A daemon, so that a process whose thread hangs can end.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, deadline_s: float, doing: str, function: Callable[..., _T], *args: Any) -> _T:
        """`function(*args)` in the thread: what it returns or raises. Raises Hung after `deadline_s`; `doing` says at
        what. If the wait is interrupted, the call is made all the same."""
        future: Future[_T] = Future()
        self._calls.put((future, function, args))
        try:
            return future.result(deadline_s)
        except TimeoutError:
            if future.done():  # it is the function's own
                raise
            raise Hung(
                f"vLLM has been at {doing} for {deadline_s:g} s; see its log, or raise engine.args.deadline_s"
            ) from None

    def close(self) -> None:
        """End after the calls that were asked for."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, args = call
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
            del call, future, function, args  # while it waits it keeps nothing alive
