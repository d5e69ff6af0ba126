"""Plays groups of games, and answers requests: what an engine's process does, and a worker's."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Completion, Episode, PolicyId, Request, VoidedGame
from spiral.api.training import Stateful
from spiral.cluster.backends import Backend
from spiral.cluster.orders import Facts, Load, Orders, Report, Ticket
from spiral.cluster.versions import Origin, check_versions, versions
from spiral.config.schema import Config
from spiral.models.tokens import Vocabulary
from spiral.plugins.registry import Plugins
from spiral.policies.reference import PolicyRef
from spiral.selfplay.match import Group
from spiral.selfplay.play import Play
from spiral.selfplay.setup import make_training_setup, turn_record

WORK_S = 0.05
"""About how long orders are worked on before there is a report."""


@dataclass
class _Outbox:
    """What a client was not told yet."""

    finished: list[tuple[Ticket, Sequence[Episode]]] = field(default_factory=list)
    returned: list[Ticket] = field(default_factory=list)
    voided: list[tuple[Ticket, VoidedGame]] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


class Player:
    """The games and the pool of a run, and what answers for its policies, for several clients at once."""

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        make_backend: Callable[[Config, Plugins], Backend],
        origin: Origin,
        folder: Path | None = None,
    ) -> None:
        """`origin`: what must be the same here. `folder`: of the run, for what its bots keep. Raises SpiralError for
        what differs, or cannot be made here."""
        check_versions(origin.versions, versions(plugins), origin.host, platform.node())
        self.incarnation = uuid.uuid4().hex
        try:
            self._backend = make_backend(config, plugins)
        except SpiralError as error:
            raise RunError(f"on {platform.node()}, where a player was to start: {error}") from error
        self._loaded: dict[PolicyId, int] = {}
        self._waiting: list[tuple[str, Mapping[PolicyId, int], Ticket | Request]] = []
        self._groups: dict[int, tuple[str, Ticket, Group]] = {}
        self._outboxes: defaultdict[str, _Outbox] = defaultdict(_Outbox)
        self._clients: dict[str, str] = {}
        self._since = time.time()
        self._engine, self._pool = self._backend.engine, self._backend.players.pool
        if folder is not None:
            self._pool.keep_in(folder, has_single=False)
        self._play = Play(
            self._backend.players.games, self._pool, config.rollout, self._on_again, self._on_voided,
            record=turn_record(config, make_training_setup(config, plugins).advantages),
        )  # fmt: skip

    def facts(self) -> Facts:
        """What it is."""
        engine = self._engine
        context, capacity, dtype = (getattr(engine, name, None) for name in ("context", "capacity", "dtype"))
        roles = self._backend.plays, self._backend.answers
        where = platform.node(), os.getpid(), self._since
        return Facts(self.incarnation, *where, context, capacity, dtype, *roles)

    def vocabulary(self) -> Vocabulary:
        """How prompts of its model are written, and replies read."""
        return self._backend.vocabulary

    def work(self, client: str, orders: Orders) -> Report:
        """Follow a client's orders, work for a while on what all clients want, and report to this one. Raises
        SpiralError for what no game is to blame for, and FetchFailed after which it must not be asked again."""
        began = time.time()
        if orders.incarnation != self.incarnation:
            return Report(self.incarnation, was_refused=True)
        self._forget_earlier(client)
        for load in orders.loads:
            self._load(load)
        for policy in orders.drops:
            self._drop(policy)
        self._waiting += [(client, orders.needs, ticket) for ticket in orders.tickets]
        self._waiting += [(client, orders.needs, request) for request in orders.requests]
        self._begin()
        # Where other processes play, their next requests wait for the end of this call.
        until = time.monotonic() + (WORK_S if self._backend.plays else 0.0)
        with self._play:
            while self._play.busy or self._engine.is_asked:
                self._play.advance()
                if not self._play.num_asked and self._engine.is_asked:
                    self._engine.step()
                self._collect()
                if time.monotonic() >= until:
                    break
        out = self._outboxes.pop(client, _Outbox())
        spans = self._backend.spans(began)
        return Report(self.incarnation, spans, out.finished, out.returned, out.voided, out.completions)

    def close(self) -> None:
        """Free what it holds."""
        self._play.close()
        self._backend.close()

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

    def _load(self, load: Load) -> None:
        if not getattr(self._engine, "loads_in_flight", False):
            self._play.hold()
            while self._engine.is_asked:
                self._engine.step()
        self._collect()
        self._loaded.pop(load.policy, None)  # a load that breaks off leaves nothing that may be played with
        self._backend.load(load)
        self._pool.add_weights(load.policy)
        self._loaded[load.policy] = load.serial

    def _drop(self, policy: PolicyId) -> None:
        self._backend.drop(policy)
        self._pool.remove_weights(policy)
        self._loaded.pop(policy, None)

    def _begin(self) -> None:
        """Begin what waits and has its weights by now."""
        waiting, self._waiting = self._waiting, []
        for client, needs, one in waiting:
            if any(self._loaded.get(policy, 0) < serial for policy, serial in needs.items()):
                self._waiting.append((client, needs, one))
            elif isinstance(one, Ticket):
                if one.is_single:
                    self._pool.host()
                self._find_bots(one.draw.policies)
                group = self._play.start(one.draw)
                self._groups[id(group)] = client, one, group
            else:
                self._engine.ask(client, one)

    def _find_bots(self, policies: Sequence[PolicyId]) -> None:
        """Make the bots that play. Raises SpiralError for those of which there can be one alone."""
        for policy in {*policies}:
            if policy not in self._pool:
                self._backend.players.loader.load_ref(PolicyRef.of_bot(policy))
            bot = self._pool.bot_of(policy)
            if isinstance(bot, Stateful):
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
