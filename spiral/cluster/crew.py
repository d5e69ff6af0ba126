"""The players as processes: what has to be there to reach them. Ray's is in `spiral.cluster.ray_crew`; a fake one in
`spiral.testing.crew`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from spiral.api.records import PolicyId
from spiral.cluster.buckets import Bucket
from spiral.cluster.orders import Facts, Orders, Report
from spiral.models.tokens import Vocabulary

Call = Any
"""A call that was made and has not been answered; hashable."""


class PlayerLost(Exception):
    """The process of a player ended, or cannot be reached; another may take its place under the same name."""


class Crew(Protocol):
    """Calls to players by name. None of them waits but `wait`."""

    def players(self) -> Sequence[str]:
        """All that there are, those that are being started again included."""

    def ask_facts(self, player: str) -> Call:
        """Ask what a player is; answered once it can play."""

    def ask_vocabulary(self, player: str) -> Call:
        """Ask an engine's process how prompts of its model are written; answered with None before it can play."""

    def order(self, player: str, client: str, orders: Orders) -> Call:
        """Give orders; a player follows those of one client one after another."""

    def wait(self, calls: Sequence[Call], timeout_s: float) -> Sequence[Call]:
        """Those that are answered; waits for the first for so long, at most."""

    def answer(self, call: Call) -> Facts | Report | Vocabulary | None:
        """What came back. Raises PlayerLost, or the SpiralError that the player raised."""

    def cut(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> Iterator[Bucket]:
        """The buckets of a policy's weights, snapshots of them, each read once."""

    def put(self, bucket: Bucket) -> Any:
        """Keep a bucket of weights where all players can fetch it; what they fetch it by."""
