"""Which weights there are, and which of them a player has to load or to drop: by demand, and new versions of what it
has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from spiral.api.records import PolicyId
from spiral.cluster.buckets import Layout
from spiral.cluster.orders import Load

LOADS = 1 << 32
"""More than one start of the learner gives."""


class WeightTable:
    """The latest load of each policy."""

    def __init__(self, gives: bool, num_starts: int = 0) -> None:
        """`gives`: whether the loads are this client's to give; of another's it only counts them. `num_starts`: of the
        learner, before this one."""
        self.gives = gives
        self._loads: dict[PolicyId, Load] = {}
        # Players keep what an earlier start of the learner gave them: its loads must not count as those of this one.
        self._num_loads = num_starts * LOADS
        self._retired: set[PolicyId] = set()
        """To be dropped once no game needs them."""

    def load(self, policy: PolicyId, version: int, buckets: Sequence[tuple[Layout, Any]]) -> None:
        """A policy has these weights from now on."""
        self._num_loads += 1
        self._loads[policy] = Load(policy, version, self._num_loads, buckets)
        self._retired.discard(policy)

    def expect(self, load: Load) -> None:
        """A policy has these weights, by the count of the client that gives them."""
        self._loads[load.policy] = load
        self._retired.discard(load.policy)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy once no game needs it."""
        self._retired.add(policy)

    def needs(self, policies: Collection[PolicyId]) -> dict[PolicyId, int]:
        """Of these policies, those with weights, and the load that they need."""
        return {policy: load.serial for policy, load in self._loads.items() if policy in policies}

    def lacks(self, held: Mapping[PolicyId, int], in_games: Callable[[], Collection[PolicyId]]) -> bool:
        """Whether a player that has `held` is without the present weights of a policy that it has or that plays."""
        if not self.gives:
            return False
        missing = {policy for policy, load in self._loads.items() if held.get(policy) != load.serial}
        return bool(missing) and bool(missing & ({*held} | {*in_games()}))

    def due(
        self, held: dict[PolicyId, int], needed: Iterable[PolicyId], in_games: Callable[[], Collection[PolicyId]]
    ) -> tuple[list[Load], list[PolicyId]]:
        """What a player that has `held` and needs `needed` is to load and to drop; `held` is brought up to date.
        `in_games`: the policies of all games that are asked for."""
        if not self.gives:
            return [], []
        if self._retired:
            for policy in self._retired - {*in_games()}:
                self._loads.pop(policy, None)
                self._retired.discard(policy)
        wanted = {*needed, *held}
        loads = [load for p, load in self._loads.items() if p in wanted and held.get(p) != load.serial]
        drops = [policy for policy in held if policy not in self._loads]
        held |= {load.policy: load.serial for load in loads}
        for policy in drops:
            del held[policy]
        return loads, drops
