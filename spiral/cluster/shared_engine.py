"""An engine that the games of its process and several clients ask at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import Engine


class SharedEngine:
    """An `Engine` around another that games and clients ask at once; the clients' replies are set apart."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._numbers = itertools.count(-1000, -1)
        self._asked: dict[int, tuple[str, int]] = {}
        self._replies: list[tuple[str, Completion]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    @property
    def is_asked(self) -> bool:
        """Whether a client's request is in flight."""
        return bool(self._asked)

    def ask(self, client: str, request: Request) -> None:
        """Queue a client's request, whose number another client may use too."""
        number = next(self._numbers)
        self._engine.submit(replace(request, id=number))
        self._asked[number] = client, request.id

    def replies(self) -> list[tuple[str, Completion]]:
        """The clients' replies since this was last asked."""
        replies, self._replies = self._replies, []
        return replies

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        self._engine.submit(request)

    def step(self) -> list[Completion]:
        """See `Engine`."""
        found = []
        for completion in self._engine.step():
            if (asked := self._asked.pop(completion.request_id, None)) is None:
                found.append(completion)
            else:
                client, number = asked
                self._replies.append((client, replace(completion, request_id=number)))
        return found

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Any], version: int) -> None:
        """See `Engine`."""
        self._engine.load_weights(policy, weights, version)

    def drop(self, policy: PolicyId) -> None:
        """See `Engine`."""
        self._engine.drop(policy)
