"""Plays groups of games, and answers requests, with an engine of its own: what an engine's process does."""

from __future__ import annotations

import itertools
import os
import platform
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spiral.api.errors import RunError, SpiralError
from spiral.api.policies import KeepsFiles
from spiral.api.records import Completion, Episode, PolicyId, Request, VoidedGame
from spiral.api.training import Engine, Stateful
from spiral.cluster.buckets import Received
from spiral.cluster.orders import Facts, Load, Orders, Report, Ticket
from spiral.cluster.versions import Origin, check_versions, versions
from spiral.config.schema import Config
from spiral.plugins.registry import Plugins
from spiral.policies.loading import probed_engine
from spiral.policies.reference import PolicyRef
from spiral.selfplay.match import Group
from spiral.selfplay.play import Play
from spiral.selfplay.setup import PlaySetup, add_members, make_play_setup, make_training_setup, turn_record

WORK_S = 0.05
"""About how long orders are worked on before there is a report."""

Fetch = Callable[[Any], Mapping[str, Any]]


@dataclass
class _Outbox:
    """What a client was not told yet."""

    finished: list[tuple[Ticket, Sequence[Episode]]] = field(default_factory=list)
    returned: list[Ticket] = field(default_factory=list)
    voided: list[tuple[Ticket, VoidedGame]] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


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


class Player:
    """The games, the pool and an engine of a run, for several clients at once."""

    def __init__(self, config: Config, plugins: Plugins, fetch: Fetch, origin: Origin) -> None:
        """`fetch`: gets the bucket that a load names. `origin`: what must be the same here. Raises SpiralError for what
        differs, or cannot be made here."""
        check_versions(origin.versions, versions(plugins), origin.host, platform.node())
        self._config, self._fetch = config, fetch
        self.incarnation = uuid.uuid4().hex
        try:
            self.setup = self._made(config, plugins)
        except SpiralError as error:
            raise RunError(f"on {platform.node()}, where a player was to start: {error}") from error
        self._loaded: dict[PolicyId, int] = {}
        self._waiting: list[tuple[str, Mapping[PolicyId, int], Ticket | Request]] = []
        self._groups: dict[int, tuple[str, Ticket, Group]] = {}
        self._outboxes: defaultdict[str, _Outbox] = defaultdict(_Outbox)
        self._clients: dict[str, str] = {}
        self._is_asleep = False
        self._play = Play(
            self.setup.games, self.setup.pool, config.rollout, self._on_again, self._on_voided,
            record=turn_record(config, make_training_setup(config, plugins).advantages),
        )  # fmt: skip

    def _made(self, config: Config, plugins: Plugins) -> PlaySetup:
        def shared(model: Any, tokenizer: Any) -> Engine:
            self._engine = SharedEngine(probed_engine(model, tokenizer, config, plugins))
            return self._engine

        setup = make_play_setup(config, plugins, make_engine=shared)
        add_members(config, setup)
        return setup

    def facts(self) -> Facts:
        """What it is."""
        engine = self._engine
        context, capacity, dtype = (getattr(engine, name, None) for name in ("context", "capacity", "dtype"))
        return Facts(self.incarnation, platform.node(), os.getpid(), context, capacity, dtype)

    def work(self, client: str, orders: Orders) -> Report:
        """Follow a client's orders, work for a while on what all clients want, and report to this one. Raises
        SpiralError for what no game is to blame for, and FetchFailed after which it must not be asked again."""
        began = time.time()
        if orders.incarnation != self.incarnation:
            return Report(self.incarnation, began, began, was_refused=True)
        self._forget_earlier(client)
        self._sleep(orders.asleep)
        for load in orders.loads:
            self._load(load)
        for policy in orders.drops:
            self._drop(policy)
        self._waiting += [(client, orders.needs, ticket) for ticket in orders.tickets]
        self._waiting += [(client, orders.needs, request) for request in orders.requests]
        self._begin()
        until = time.monotonic() + WORK_S
        with self._play:
            while (self._play.busy or self._engine.is_asked) and time.monotonic() < until:
                self._play.advance()
                if not self._play.num_asked and self._engine.is_asked:
                    self._engine.step()
                self._collect()
        out = self._outboxes.pop(client, _Outbox())
        told = out.finished, out.returned, out.voided, out.completions
        return Report(self.incarnation, began, time.time(), *told)

    def close(self) -> None:
        """Free what it holds."""
        self._play.close()
        if (close := getattr(self._engine, "close", None)) is not None:
            close()

    def _forget_earlier(self, client: str) -> None:
        """Give up what a client asked for before it was started again: a name is followed by a colon and a number."""
        name, _, number = client.partition(":")
        if self._clients.setdefault(name, number) == number:
            return
        gone = f"{name}:{self._clients[name]}"
        self._clients[name] = number
        self._outboxes.pop(gone, None)
        self._waiting = [one for one in self._waiting if one[0] != gone]
        for key, (owner, _, group) in [*self._groups.items()]:
            if owner == gone:
                self._play.give_up(group)
                del self._groups[key]

    def _sleep(self, asleep: bool) -> None:
        if asleep != self._is_asleep:
            self._is_asleep = asleep
            getattr(self._engine, "sleep" if asleep else "wake")()

    def _load(self, load: Load) -> None:
        if not getattr(self._engine, "loads_in_flight", False):
            self._play.hold()
            while self._engine.is_asked:
                self._engine.step()
        self._collect()
        self._loaded.pop(load.policy, None)  # a load that breaks off leaves nothing that may be played with
        self.setup.completer.engine.load_weights(load.policy, Received(load.buckets, self._fetch), load.version)
        self.setup.pool.add_weights(load.policy)
        self._loaded[load.policy] = load.serial

    def _drop(self, policy: PolicyId) -> None:
        self._engine.drop(policy)
        self.setup.pool.remove_weights(policy)
        self._loaded.pop(policy, None)

    def _begin(self) -> None:
        """Begin what waits and has its weights by now."""
        waiting, self._waiting = self._waiting, []
        for client, needs, one in waiting:
            if any(self._loaded.get(policy, 0) < serial for policy, serial in needs.items()):
                self._waiting.append((client, needs, one))
            elif isinstance(one, Ticket):
                self._find_bots(one.draw.policies)
                group = self._play.start(one.draw)
                self._groups[id(group)] = client, one, group
            else:
                self._engine.ask(client, one)

    def _find_bots(self, policies: Sequence[PolicyId]) -> None:
        """Make the bots that play. Raises SpiralError for those of which there can be one alone."""
        for policy in {*policies}:
            if policy not in self.setup.pool:
                self.setup.loader.load_ref(PolicyRef.of_bot(policy))
            bot = self.setup.pool.bot_of(policy)
            if isinstance(bot, Stateful | KeepsFiles):
                raise SpiralError(
                    f"{policy} keeps a state of its own, and each player of the cluster would have another one; leave "
                    "it out, or train with cluster=local"
                )

    def _collect(self) -> None:
        while self._play.finished:
            group = self._play.finished.popleft()
            client, ticket, _ = self._groups.pop(id(group))
            self._outboxes[client].finished.append((ticket, [group.episodes[i] for i in sorted(group.episodes)]))
        for client, completion in self._engine.replies():
            name, _, number = client.partition(":")
            if self._clients[name] != number:
                continue  # what asked was started again meanwhile
            self._outboxes[client].completions.append(completion)

    def _on_voided(self, group: Group, voided: VoidedGame) -> None:
        client, ticket, _ = self._groups[id(group)]
        self._outboxes[client].voided.append((ticket, voided))

    def _on_again(self, group: Group) -> None:
        self._play.give_up(group)
        client, ticket, _ = self._groups.pop(id(group))
        self._outboxes[client].returned.append(ticket)
