"""An `Engine` whose work players do; for whatever asks single replies of the policies in training, such as matches for
evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from torch import Tensor

from spiral.api.errors import RunError
from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import check_request
from spiral.cluster.fleet import Fleet
from spiral.cluster.orders import Load

STEP_S = 0.05
"""Longest that a step waits for a reply."""


class FleetEngine:
    """See `spiral.api.training.Engine`."""

    loads_in_flight = True

    def __init__(
        self,
        fleet: Fleet,
        start_s: float,
        on_wait: Callable[[float, float], None] = lambda began, ended: None,
    ) -> None:
        """Waits for the first engine, `start_s` seconds at most, which tells what they are. `on_wait` is told of each
        wait for a reply, from and to, in seconds since the epoch. Raises RunError if none comes."""
        if not fleet.wait(lambda: bool(fleet.engines()), start_s):
            raise RunError(
                f"no engine of the cluster was ready after {start_s:g} s; see their logs, or raise cluster.args.start_s"
            )
        facts = fleet.engines()[0]
        self._fleet, self._on_wait = fleet, on_wait
        self._policies: set[PolicyId] = set()
        self._num_asked = 0
        self.context, self.capacity, self.dtype = facts.context, facts.capacity, facts.dtype

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        check_request(self, request, self._policies)
        self._fleet.ask(request)
        self._num_asked += 1

    def step(self) -> list[Completion]:
        """See `Engine`."""
        if not self._num_asked:
            return []
        began = time.time()
        self._fleet.wait(lambda: bool(self._fleet.results.completions), STEP_S)
        self._on_wait(began, time.time())
        found = self._fleet.results.take_completions()
        self._num_asked -= len(found)
        return sorted(found, key=lambda completion: completion.request_id)

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """See `Engine`; games in play go on, with the new weights from their next reply on."""
        self._policies.add(policy)
        self._fleet.load(policy, weights, version)

    def expect(self, load: Load) -> None:
        """Let a policy answer by this load, which another client gives the engines, or by a later one."""
        self._policies.add(load.policy)
        self._fleet.expect(load)

    def drop(self, policy: PolicyId) -> None:
        """See `Engine`; after the games that need it."""
        self._policies.discard(policy)
        self._fleet.drop(policy)

    def close(self) -> None:
        """See `Engine`."""
        self._fleet.close()
