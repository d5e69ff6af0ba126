"""Counts the calls, tokens and cost of a remote model, and enforces a budget over any number of threads."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spiral import SpiralError
from spiral_opponents.openai_chat.http import CallFailed


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
        self._settled = threading.Condition()
        self._reserved = 0.0
        """The most that the calls in flight can cost."""
        self._num_in_flight = 0
        self._state: dict[str, Any] = {
            "calls": 0,
            "prompt_tokens": 0,
            "reply_tokens": 0,
            "cost": 0.0,
            "failures": {},
        }

    @property
    def state(self) -> dict[str, Any]:
        """JSON values: what was spent so far, and failures by cause, one for each call that failed."""
        with self._settled:
            return copy.deepcopy(self._state)

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        with self._settled:
            self._state = copy.deepcopy(state)

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
            while True:
                if self._max_calls is not None and self._state["calls"] >= self._max_calls:
                    raise self._spent(f"{self._max_calls} calls", "max_calls")
                if self._max_cost is None or self._state["cost"] + self._reserved + bound <= self._max_cost:
                    break
                # A call in flight may settle below what it reserved; with none in flight waiting is of no use.
                if not self._num_in_flight:
                    more = f"{self._max_cost:g} ({self._state['cost']:.6g} spent, and a call may cost {bound:.3g})"
                    raise self._spent(more, "max_cost")
                self._settled.wait()
            self._state["calls"] += 1
            self._num_in_flight += 1
            self._reserved += bound

    def _settle(self, bound: float, usage: tuple[int, int] | None, charged: bool) -> None:
        with self._settled:
            self._num_in_flight -= 1
            self._reserved = self._reserved - bound if self._num_in_flight else 0.0  # sums of floats would leave a rest
            if usage is not None:
                self._state["prompt_tokens"] += usage[0]
                self._state["reply_tokens"] += usage[1]
                self._state["cost"] += self._cost(usage)
            elif charged:
                self._state["cost"] += bound
            self._settled.notify_all()

    def _failed(self, cause: str) -> None:
        with self._settled:
            failures = self._state["failures"]
            failures[cause] = failures.get(cause, 0) + 1

    def _cost(self, tokens: tuple[int, int]) -> float:
        return sum(number * price for number, price in zip(tokens, self._prices, strict=True)) / 1e6

    def _spent(self, budget: str, argument: str) -> SpiralError:
        return SpiralError(
            f"{self._name} has used its budget of {budget}; raise {argument}, or take it out of the opponents"
        )
