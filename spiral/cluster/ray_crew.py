"""The players as actors of Ray, which places them, starts them again, and carries what they are sent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util import list_named_actors
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import PolicyId
from spiral.cluster.backends import Backend, OtherEngines, OwnEngine
from spiral.cluster.broken_loads import BrokenLoads
from spiral.cluster.buckets import Bucket
from spiral.cluster.crew import Call, PlayerLost
from spiral.cluster.log import Warnings
from spiral.cluster.orders import Facts, Orders, Report
from spiral.cluster.player import Player
from spiral.cluster.settings import RaySettings, ray_settings
from spiral.cluster.transports import Transport, check_transport, cut, fetch, keep
from spiral.cluster.versions import Origin
from spiral.config.schema import Config
from spiral.models.tokens import Vocabulary
from spiral.plugins.registry import Plugins

ENGINE, WORKER = "engine", "worker"
"""The kinds of players; each is called by its kind and a number."""


class PlayerProcess:
    """An actor with a `Player`, which is made when it is first asked what it is: what fails then is told as an answer,
    where Ray tells of a constructor's failure only that the actor died."""

    def __init__(
        self, config: Config, origin: Origin, make_backend: Callable[[Config, Plugins], Backend], folder: Path
    ) -> None:
        self._config, self._origin, self._make_backend, self._folder = config, origin, make_backend, folder
        self._player: Player | None = None
        self._loads = BrokenLoads()
        self._said: list[str] = []
        Warnings(lambda sentence: self._said.append(sentence))

    def facts(self) -> Facts:
        """What it is. Raises SpiralError for what cannot be made on this node."""
        if self._player is None:
            enter_folder(self._origin)
            made = self._make_backend, self._origin, self._folder
            self._player = Player(self._config, Plugins.installed(), *made)
        return self._player.facts()

    def vocabulary(self) -> Vocabulary | None:
        """See `Player.vocabulary`; None where it was not asked yet what it is."""
        return None if self._player is None else self._player.vocabulary()

    def work(self, client: str, orders: Orders) -> Report:
        """See `Player.work`."""
        if self._player is None:  # started again; what it is has to be asked first
            return Report("", was_refused=True)
        report = self._loads.work(self._player, client, orders)
        if report.problem:
            self._player = None
        said, self._said = self._said, []
        return replace(report, said=said)


def own_engine(config: Config, plugins: Plugins, plays: bool) -> Backend:
    """Of an engine's process."""
    if (settings := ray_settings(config)) is not None:
        check_transport(settings.transport)
    return OwnEngine(config, plugins, fetch, plays)


def other_engines(config: Config, plugins: Plugins, namespace: str, name: str, start_s: float) -> Backend:
    """Of a worker's process."""
    client = f"{name}:{uuid.uuid4().hex}"
    return OtherEngines(config, plugins, RayCrew(namespace, kinds=(ENGINE,)), client, start_s)


def enter_folder(origin: Origin) -> None:
    """Paths in a config are relative to where the command was given, where that folder is here too."""
    if Path(origin.folder).is_dir():
        os.chdir(origin.folder)


@dataclass(frozen=True)
class Needs:
    """What a kind of process needs, and how many there are."""

    what: str
    num: int
    cpus: float
    gpus: float


class RayCrew:
    """See `spiral.cluster.crew.Crew`."""

    def __init__(
        self, namespace: str, transport: Transport = "store", kinds: Collection[str] = (ENGINE, WORKER)
    ) -> None:
        """`namespace`: Ray's, of the run's actors. `transport`: of the weights of policies in training. `kinds`: of the
        players that there are for this client."""
        self._namespace, self._transport, self._kinds = namespace, transport, kinds
        self._actors: dict[str, Any] = {}
        self._names: dict[Call, str] = {}

    def players(self) -> Sequence[str]:
        named = list_named_actors(all_namespaces=True)
        mine = [one["name"].rpartition("-") for one in named if one["namespace"] == self._namespace]
        found = sorted((kind, int(number)) for kind, _, number in mine if kind in self._kinds)
        return [f"{kind}-{number}" for kind, number in found]

    def ask_facts(self, player: str) -> Call:
        return self._noted(player, self._actor(player).facts.remote())

    def ask_vocabulary(self, player: str) -> Call:
        return self._noted(player, self._actor(player).vocabulary.remote())

    def order(self, player: str, client: str, orders: Orders) -> Call:
        return self._noted(player, self._actor(player).work.remote(client, orders))

    def wait(self, calls: Sequence[Call], timeout_s: float) -> Sequence[Call]:
        ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(calls), num_returns=1, timeout=timeout_s)
        found: list[Call] = ready
        return found

    def answer(self, call: Call) -> Facts | Report | Vocabulary | None:
        name = self._names.pop(call)
        try:
            answer: Facts | Report | Vocabulary | None = ray.get(call)
            return answer
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, SpiralError) else error from None
        except ray.exceptions.RayActorError as error:
            self._actors.pop(name, None)
            raise PlayerLost((str(error).strip().splitlines() or ["no reason was given"])[0]) from error

    def cut(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> Iterator[Bucket]:
        return cut(self._transport, policy, weights)

    def put(self, bucket: Bucket) -> Any:
        return keep(self._transport, bucket)

    def _noted(self, player: str, call: Call) -> Call:
        self._names[call] = player
        return call

    def _actor(self, player: str) -> Any:
        if player not in self._actors:
            try:
                self._actors[player] = ray.get_actor(player, namespace=self._namespace)
            except ValueError as error:  # Ray knows it no more
                raise PlayerLost(str(error)) from error
        return self._actors[player]


class RayPlayers:
    """Starts the players of a run, and holds them: they end with the process that started them."""

    def __init__(self, config: Config, settings: RaySettings, origin: Origin, namespace: str, folder: Path) -> None:
        """`folder`: of the run, for what its bots keep."""
        self._config, self.settings, self._origin, self._namespace = config, settings, origin, namespace
        self._folder = folder
        self._engines: list[Any] = []
        self._workers: list[Any] = []

    def start(self, num: int) -> None:
        """So many engines, and the workers."""
        s = self.settings
        self.grow_to(num)
        for n in range(s.workers):
            name = f"{WORKER}-{n}"
            make = partial(other_engines, namespace=self._namespace, name=name, start_s=s.start_s)
            self._workers.append(self._started(name, make, num_cpus=s.worker_cpus))

    def grow_to(self, num: int) -> None:
        """So many engines in all, if there are fewer: nodes joined. Of nodes that left, Ray starts the players anew
        elsewhere, or when a node is there again."""
        s = self.settings
        for n in range(len(self._engines), num):
            make = partial(own_engine, plays=not s.workers)
            started = self._started(f"{ENGINE}-{n}", make, num_cpus=s.engine_cpus, num_gpus=s.engine_gpus)
            self._engines.append(started)

    def _started(self, name: str, make_backend: Callable[[Config, Plugins], Backend], **resources: float) -> Any:
        # No retries by Ray: the fleet gives out again what is lost, and a game that Ray begins again counts twice.
        options = {"max_restarts": self.settings.restarts, "max_task_retries": 0, "namespace": self._namespace}
        placed = ray.remote(PlayerProcess).options(name=name, **resources, **options)
        return placed.remote(self._config, self._origin, make_backend, self._folder)


def missing(total: Mapping[str, float], needs: Sequence[Needs]) -> str:
    """What the processes need and a cluster does not have, as the end of a sentence; empty if nothing is missing."""
    found = []
    for kind, sizes in (("CPU", [n.num * n.cpus for n in needs]), ("GPU", [n.num * n.gpus for n in needs])):
        if sum(sizes) > total.get(kind, 0.0):
            each = ", ".join(f"{n.num} {n.what} take {size:g}" for n, size in zip(needs, sizes, strict=True))
            found.append(f"{sum(sizes):g} {kind}s are asked for ({each}), and the cluster has {total.get(kind, 0.0):g}")
    return "; ".join(found)
