"""A crew whose players are in the calling process: real ones, that can be killed between two orders. Apart from
`spiral.testing`, since it loads torch."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import PolicyId
from spiral.cluster.broken_loads import BrokenLoads
from spiral.cluster.buckets import BUCKET_BYTES, Bucket
from spiral.cluster.crew import Call, PlayerLost
from spiral.cluster.orders import Facts, Orders, Report
from spiral.cluster.player import Player
from spiral.cluster.transports import Transport, cut
from spiral.cluster.versions import Origin
from spiral.config.schema import Config
from spiral.plugins.registry import Plugins


class LocalCrew:
    """See `spiral.cluster.crew.Crew`. A killed player comes back as a new one, under the same name."""

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        num: int = 2,
        dies: Callable[[str, int], bool] = lambda player, order: False,
        origin: Origin | None = None,
        transport: Transport = "store",
        breaks: Callable[[int], bool] = lambda number: False,
    ) -> None:
        """`dies(player, n)`: whether a player is lost as it follows the n-th order that all of them were given.
        `breaks(n)`: whether the n-th fetch of a bucket fails."""
        self._transport, self._breaks = transport, breaks
        self.num_fetches = 0
        """Buckets that were asked for so far."""
        self._config, self._plugins, self._dies = config, plugins, dies
        self._origin = origin or Origin.here(plugins)
        self._names = [f"player-{n}" for n in range(num)]
        self._players: dict[str, Player] = {}
        self._asked: dict[int, tuple[str, tuple[str, Orders] | None]] = {}
        self._answers: dict[int, Any] = {}
        self._numbers, self._orders = itertools.count(), itertools.count()
        self._one_at_a_time = threading.Lock()
        self._loads = BrokenLoads()
        self._buckets: list[Bucket] = []
        self.ordered: list[tuple[str, Orders]] = []
        """What the players were told, in order."""
        self.num_lost = 0
        self.bucket_bytes = BUCKET_BYTES
        """Of a bucket, at most."""

    def players(self) -> Sequence[str]:
        return list(self._names)

    def join(self, name: str) -> None:
        """One more player."""
        self._names.append(name)

    def leave(self, name: str) -> None:
        """One player less, for good."""
        self._names.remove(name)
        self._players.pop(name, None)

    def ask_facts(self, player: str) -> Call:
        return self._ask(player, None)

    def order(self, player: str, client: str, orders: Orders) -> Call:
        self.ordered.append((player, orders))
        return self._ask(player, (client, orders))

    def wait(self, calls: Sequence[Call], timeout_s: float) -> Sequence[Call]:
        with self._one_at_a_time:  # as an actor does what its clients ask
            for call in sorted(calls):
                if call in self._asked:
                    self._answers[call] = self._answered(*self._asked.pop(call))
        return calls

    def answer(self, call: Call) -> Facts | Report:
        answer = self._answers.pop(call)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Facts | Report)
        return answer

    def cut(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> Iterator[Bucket]:
        return cut(self._transport, policy, weights, self.bucket_bytes)

    def put(self, bucket: Bucket) -> Any:
        self._buckets.append(bucket)
        return len(self._buckets) - 1

    def _ask(self, player: str, what: tuple[str, Orders] | None) -> Call:
        number = next(self._numbers)
        self._asked[number] = player, what
        return number

    def _answered(self, name: str, what: tuple[str, Orders] | None) -> Facts | Report | Exception:
        if name not in self._names:
            return PlayerLost("it left")
        try:
            return self._by(self._players.get(name) or self._started(name), name, what)
        except SpiralError as error:
            return error

    def _started(self, name: str) -> Player:
        if name not in self._players:
            self._players[name] = Player(self._config, self._plugins, self._fetch, self._origin)
        return self._players[name]

    def _fetch(self, number: int) -> Bucket:
        self.num_fetches += 1
        if self._breaks(self.num_fetches - 1):
            raise ConnectionError("the connection was reset")
        return self._buckets[number]

    def _by(self, player: Player, name: str, what: tuple[str, Orders] | None) -> Facts | Report | Exception:
        if what is None:
            return player.facts()
        if self._dies(name, next(self._orders)):
            del self._players[name]
            self.num_lost += 1
            return PlayerLost("it was killed")
        report = self._loads.work(player, *what)
        if report.problem:
            del self._players[name]
        return report
