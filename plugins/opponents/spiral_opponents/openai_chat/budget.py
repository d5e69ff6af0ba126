"""Counts the calls, tokens and cost of a remote model, and enforces a budget over threads, processes and resumes."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from spiral import SpiralError
from spiral_opponents.openai_chat.http import CallFailed

try:
    import fcntl
except ImportError:  # Windows: there only the threads of one process share a budget
    fcntl = None  # type: ignore[assignment]


POLL_S = 0.05
"""Between two looks at the calls of other processes, where a budget depends on what they come to."""


@dataclass
class Call:
    """One call in flight."""

    usage: tuple[int, int] | None = None
    """Tokens of the prompt and of the reply, once the server's answer has given them."""


class Account:
    """Counts calls, tokens, cost and failures. All methods may be called from any thread.

    `prompt_price`, `reply_price`: for a million tokens; the cost has their currency.
    """

    def __init__(
        self, name: str, max_calls: int | None, max_cost: float | None, prompt_price: float, reply_price: float
    ) -> None:
        self._name, self._max_calls, self._max_cost = name, max_calls, max_cost
        self._prices = prompt_price, reply_price
        self._settled = threading.Condition()  # its lock may be taken again by the thread that holds it
        self._num_in_flight = 0
        self._path: Path | None = None
        self._busy = ExitStack()
        """Holds a shared lock while a call is in flight; the system lets go of it if the process is killed."""
        self._state: dict[str, Any] = {
            "calls": 0,
            "prompt_tokens": 0,
            "reply_tokens": 0,
            "cost": 0.0,
            "reserved": 0.0,  # the most that the calls in flight, and those of processes that were killed, can cost
            "failures": {},
        }

    def keep_in(self, path: Path) -> None:
        """Count in a file from now on, with all other processes that do, and from what it holds."""
        with self._settled:
            self._path = path

    @property
    def spent(self) -> dict[str, Any]:
        """JSON values: what was spent so far, and failures by cause, one for each call that failed."""
        with self._counts() as state:
            return copy.deepcopy(state)

    @contextmanager
    def _counts(self) -> Iterator[dict[str, Any]]:
        """The counts, for one thread of one process at a time; what it changes is on disk when it is done."""
        with self._settled:
            if self._path is None:
                yield self._state
                return
            with _locked(self._path):
                if self._path.exists():
                    self._state = json.loads(self._path.read_text(encoding="utf-8"))
                before = json.dumps(self._state)
                yield self._state
                if (after := json.dumps(self._state)) != before:
                    written = self._path.with_suffix(".tmp")
                    written.write_text(after, encoding="utf-8")
                    os.replace(written, self._path)  # a kill leaves the old counts or the new ones

    @contextmanager
    def call(self, most: tuple[int, int]) -> Iterator[Call]:
        """Around one call, which uses at most the tokens `most` of prompt and reply.

        A call whose usage stays unknown is charged for `most` if the server may have replied. Raises SpiralError,
        and nothing may be sent, when the budget does not allow it; waits for calls in flight if that depends on them.
        """
        # The most that the call can cost is reserved first and corrected afterwards: threads that start together could
        # otherwise each see the same rest of the budget.
        bound, call = self._cost(most), Call()
        self._reserve(bound)
        charged = True
        try:
            yield call
        except CallFailed as failed:
            charged = failed.charged
            self._failed(failed.cause)
            raise
        except SpiralError:
            charged = False  # the server refused the request, so it generated nothing
            raise
        finally:
            self._settle(bound, call.usage, charged)

    def _reserve(self, bound: float) -> None:
        with self._settled:
            while not self._try_reserve(bound):
                self._settled.wait(None if self._num_in_flight else POLL_S)

    def _try_reserve(self, bound: float) -> bool:
        """Whether a call may be sent now; if not, one in flight has to settle first."""
        with self._counts() as state:
            if self._max_calls is not None and state["calls"] >= self._max_calls:
                raise self._spent(f"{self._max_calls} calls", "max_calls")
            used = state["cost"] + state["reserved"]
            if self._max_cost is not None and used + bound > self._max_cost:
                # A call in flight may settle below what it reserved; with none in flight waiting is of no use: what is
                # reserved then is that of processes that were killed.
                if not self._num_in_flight and not self._others_call():
                    more = f"{self._max_cost:g} ({used:.6g} spent, and a call may cost {bound:.3g})"
                    raise self._spent(more, "max_cost")
                return False
            if self._path is not None and not self._num_in_flight:
                _try_lock(self._busy.enter_context(_busy_file(self._path)), exclusive=False)
            state["calls"] += 1
            state["reserved"] += bound
            self._num_in_flight += 1
            return True

    def _settle(self, bound: float, usage: tuple[int, int] | None, charged: bool) -> None:
        with self._counts() as state:
            self._num_in_flight -= 1
            if not self._num_in_flight:
                self._busy.close()
            state["reserved"] = max(0.0, round(state["reserved"] - bound, 15))  # sums of floats would leave a rest
            if usage is not None:
                state["prompt_tokens"] += usage[0]
                state["reply_tokens"] += usage[1]
                state["cost"] += self._cost(usage)
            elif charged:
                state["cost"] += bound
            self._settled.notify_all()

    def _others_call(self) -> bool:
        """Whether a process that counts in the same file has a call in flight."""
        if self._path is None:
            return False
        with _busy_file(self._path) as file:
            return not _try_lock(file, exclusive=True)

    def _failed(self, cause: str) -> None:
        with self._counts() as state:
            state["failures"][cause] = state["failures"].get(cause, 0) + 1

    def _cost(self, tokens: tuple[int, int]) -> float:
        return sum(number * price for number, price in zip(tokens, self._prices, strict=True)) / 1e6

    def _spent(self, budget: str, argument: str) -> SpiralError:
        return SpiralError(f"{self._name} has used its budget of {budget}; raise {argument}, or go on without it")


def _busy_file(path: Path) -> IO[str]:
    return path.with_suffix(".busy").open("w")


def _try_lock(file: IO[str], exclusive: bool) -> bool:
    """Whether the lock of a file was to be had; it is held until the file is closed."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file among all processes; the system lets go of it for one that is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
