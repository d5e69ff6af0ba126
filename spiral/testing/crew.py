"""A crew whose players are in the calling process: real ones, that can be killed between two orders. Apart from
`spiral.testing`, since it loads torch."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import PolicyId
from spiral.cluster.backends import Backend, OtherEngines, OwnEngine
from spiral.cluster.broken_loads import BrokenLoads
from spiral.cluster.buckets import BUCKET_BYTES, Bucket
from spiral.cluster.crew import Call, PlayerLost
from spiral.cluster.orders import Facts, Orders, Report
from spiral.cluster.player import Player
from spiral.cluster.transports import Transport, cut
from spiral.cluster.versions import Origin
from spiral.config.schema import Config
from spiral.models.tokens import Vocabulary
from spiral.plugins.registry import Plugins

VOCABULARY = "vocabulary"
Asked = tuple[str, Orders] | str | None
"""A client and its orders, or one of the two questions; None asks for the facts."""


class LocalCrew:
    """See `spiral.cluster.crew.Crew`. A killed player comes back as a new one, under the same name."""

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        num: int = 2,
        workers: int = 0,
        dies: Callable[[str, int], bool] = lambda player, order: False,
        origin: Origin | None = None,
        transport: Transport = "store",
        breaks: Callable[[int], bool] = lambda number: False,
    ) -> None:
        """`workers`: players without an engine, which ask the `num` others. `dies(player, n)`: whether a player is lost
        as it follows the n-th order that all of them were given. `breaks(n)`: whether the n-th fetch of a bucket
        fails."""
        self._transport, self._breaks = transport, breaks
        self.num_fetches = 0
        """Buckets that were asked for so far."""
        self._config, self._plugins, self._dies = config, plugins, dies
        self._origin = origin or Origin.here(plugins)
        self._names = [f"player-{n}" for n in range(num)] + [f"worker-{n}" for n in range(workers)]
        self._has_workers = workers > 0
        self._players: dict[str, Player] = {}
        self._asked: dict[int, tuple[str, Asked]] = {}
        self._answers: dict[int, Any] = {}
        self._numbers, self._orders = itertools.count(), itertools.count()
        self._one_at_a_time: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
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
        if (player := self._players.pop(name, None)) is not None:
            player.close()

    def ask_facts(self, player: str) -> Call:
        return self._ask(player, None)

    def ask_vocabulary(self, player: str) -> Call:
        return self._ask(player, VOCABULARY)

    def order(self, player: str, client: str, orders: Orders) -> Call:
        self.ordered.append((player, orders))
        return self._ask(player, (client, orders))

    def wait(self, calls: Sequence[Call], timeout_s: float) -> Sequence[Call]:
        for call in sorted(calls):
            if call in self._asked:
                name, what = self._asked.pop(call)
                with self._one_at_a_time[name]:  # as an actor does what its clients ask
                    self._answers[call] = self._answered(name, what)
        return calls

    def answer(self, call: Call) -> Facts | Report | Vocabulary | None:
        answer = self._answers.pop(call)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Facts | Report | Vocabulary)
        return answer

    def cut(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> Iterator[Bucket]:
        return cut(self._transport, policy, weights, self.bucket_bytes)

    def put(self, bucket: Bucket) -> Any:
        self._buckets.append(bucket)
        return len(self._buckets) - 1

    def _ask(self, player: str, what: Asked) -> Call:
        number = next(self._numbers)
        self._asked[number] = player, what
        return number

    def _answered(self, name: str, what: Asked) -> Facts | Report | Vocabulary | Exception:
        if name not in self._names:
            return PlayerLost("it left")
        try:
            return self._by(self._players.get(name) or self._started(name), name, what)
        except SpiralError as error:
            return error

    def _started(self, name: str) -> Player:
        if name not in self._players:
            make = partial(self._other_engines, name) if name.startswith("worker") else self._own_engine
            self._players[name] = Player(self._config, self._plugins, make, self._origin)
        return self._players[name]

    def _own_engine(self, config: Config, plugins: Plugins) -> Backend:
        return OwnEngine(config, plugins, self._fetch, plays=not self._has_workers)

    def _other_engines(self, name: str, config: Config, plugins: Plugins) -> Backend:
        return OtherEngines(config, plugins, _Engines(self), f"{name}:{uuid.uuid4().hex}", 60.0)

    def _fetch(self, number: int) -> Bucket:
        self.num_fetches += 1
        if self._breaks(self.num_fetches - 1):
            raise ConnectionError("the connection was reset")
        return self._buckets[number]

    def _by(self, player: Player, name: str, what: Asked) -> Facts | Report | Vocabulary | Exception:
        if what is None:
            return player.facts()
        if isinstance(what, str):
            return player.vocabulary()
        if self._dies(name, next(self._orders)):
            self._players.pop(name).close()
            self.num_lost += 1
            return PlayerLost("it was killed")
        report = self._loads.work(player, *what)
        if report.problem:
            del self._players[name]
        return report


class _Engines:
    """A crew as its workers see it: the players that have an engine."""

    def __init__(self, crew: LocalCrew) -> None:
        self._crew = crew

    def __getattr__(self, name: str) -> Any:
        return getattr(self._crew, name)

    def players(self) -> Sequence[str]:
        return [name for name in self._crew.players() if not name.startswith("worker")]
