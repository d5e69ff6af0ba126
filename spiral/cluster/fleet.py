"""The players as the learner's process sees them: gives out groups of games, weights and requests, hears what came of
them, and begins again elsewhere what a lost player had."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import Tensor

from spiral.api.errors import RunError
from spiral.api.records import PolicyId, Request
from spiral.cluster.buckets import Layout, layout_of
from spiral.cluster.crew import Call, Crew, PlayerLost
from spiral.cluster.dispatcher import Dispatcher
from spiral.cluster.member import Member
from spiral.cluster.orders import Facts, Load, Orders, Report, Ticket
from spiral.cluster.results import Results
from spiral.cluster.weight_table import WeightTable

CALLS = 2
"""Orders that a player has at once: while one is reported, it works on the next."""
POLL_S = 0.05
"""Longest wait for a report before new orders are looked for."""
SEARCH_S = 1.0
"""Seconds between two looks for players that joined or came back."""


class Fleet:
    """Players, and one client of theirs. A thread gives orders and takes reports, so that players go on while the
    learner computes; what it meets is raised where the client waits."""

    def __init__(
        self,
        crew: Crew,
        client: str,
        window: int,
        deadline_s: float,
        gives_weights: bool = True,
        num_starts: int = 0,
        on_loss: Callable[[str], None] = lambda sentence: None,
        on_said: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """`window`: groups that one player has at once, at most. `deadline_s`: the longest time without a word of a
        player. `gives_weights`: whether this client's weights are loaded; of several that have the same ones, the
        first does. `num_starts`: of the learner, before this one. `on_loss` is told a sentence of each player that is
        lost, `on_said` each warning of theirs."""
        self._on_loss, self._on_said = on_loss, on_said
        self._crew, self._client, self._deadline_s = crew, client, deadline_s
        self._dispatcher = Dispatcher(window)
        self._known: dict[str, Member] = {}
        self._weights = WeightTable(gives_weights, num_starts)
        self._requests: list[Request] = []
        self.num_losses = 0
        """Players that were lost so far."""
        self.cpu_s = 0.0
        """Processor time that giving orders and taking reports took so far."""
        self._searched, self._seen = -SEARCH_S, time.monotonic()
        """When players were looked for, and when one was last there."""
        self._error: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        self.results = Results(self._changed)
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._thread.start()

    # What the client asks for; each returns at once, but for `wait` and what is built on it.

    def load(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Let `policy` play with these weights from now on; they are read before this returns."""
        parts: list[tuple[Layout, Any]] = []
        for bucket in self._crew.cut(policy, weights):
            parts.append((layout_of(bucket), self._crew.put(bucket) if self._weights.gives else None))
        with self._changed:
            self._weights.load(policy, version, tuple(parts))
            self._order_all()

    def expect(self, load: Load) -> None:
        """Ask for replies of a policy by this load, which another client gives, or a later one."""
        with self._changed:
            self._weights.expect(load)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy, after the games that need it."""
        with self._changed:
            self._weights.drop(policy)

    def play(self, tickets: Iterable[Ticket]) -> None:
        """Ask for groups of games."""
        with self._changed:
            self._dispatcher.add(tickets)
            self._order_all()

    def give_up(self) -> None:
        """Ask for no group any more; what comes of those under way is not counted."""
        with self._changed:
            self._dispatcher.clear()
            self.results.forget()

    def ask(self, request: Request) -> None:
        """Ask for a reply."""
        with self._changed:
            self._requests.append(request)
            self._order_all()

    def wait(self, is_over: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something holds, for so long at most; whether it does. Raises what the players met."""
        with self._changed:
            until = time.monotonic() + timeout_s
            while not is_over():
                self._check()
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 1.0))
            self._check()
            return True

    def facts(self) -> list[Facts]:
        """Of the players that are there now."""
        with self._changed:
            return [known.facts for known in self._known.values() if known.facts is not None]

    def engines(self) -> list[Facts]:
        """Of those that answer requests."""
        return [facts for facts in self.facts() if facts.answers]

    def close(self) -> None:
        """Give no more orders."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            while not self._closed:
                with self._changed:
                    self._search()
                    self._order_all()
                    calls = [call for known in self._known.values() for call in known.calls]
                    if not calls:
                        self._changed.wait(POLL_S)
                if calls:
                    answered = self._crew.wait(calls, POLL_S)
                    with self._changed:
                        for call in answered:
                            self._hear(call)
                        self._changed.notify_all()
                self.cpu_s = time.thread_time()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _check(self) -> None:
        """Raise what the thread met, or that a player is silent."""
        if self._error is not None:
            raise self._error
        now = time.monotonic()
        for name, known in self._known.items():
            if known.calls and now - known.heard > self._deadline_s:
                raise RunError(
                    f"{name} ({known.where}) has not answered for {self._deadline_s:g} s; see its log, raise "
                    "rollout.deadline_s, or start fewer players (cluster.args.engines)"
                )
        if now - self._seen > self._deadline_s:
            raise RunError(
                f"the cluster has had no process to play or to answer for {self._deadline_s:g} s; see Ray's logs for "
                "why they ended, or raise rollout.deadline_s"
            )

    def _search(self) -> None:
        now = time.monotonic()
        if now - self._searched < SEARCH_S:
            return
        self._searched, there = now, self._crew.players()
        for name in {*self._known} - {*there}:
            self._lose(name, "it is gone for good")
            del self._known[name]
        for name in there:
            known = self._known.setdefault(name, Member())
            if known.facts is None and not known.calls:
                with suppress(PlayerLost):  # gone since it was listed
                    known.calls.append(self._crew.ask_facts(name))
            elif self._weights.gives and known.facts is not None and not (known.plays or known.calls):
                # Others ask it, so that this client would not hear of a process that took its place, without weights.
                known.calls.append(self._crew.order(name, self._client, Orders(known.facts.incarnation)))
        ready = self._known.values()
        if any(k.answers for k in ready) and (any(k.plays for k in ready) or not self._dispatcher.num_open):
            self._seen = now

    def _order_all(self) -> None:
        """At once where something new is asked, so that no player waits for the thread to look."""
        for name, known in self._known.items():
            self._order(name, known)
        self._changed.notify_all()

    def _order(self, name: str, known: Member) -> None:
        """Give a player orders, if there is something for it to do."""
        while known.facts is not None and len(known.calls) < CALLS:
            tickets = self._dispatcher.take(name) if known.plays else []
            requests = self._share_of_requests() if known.answers else []
            known.asked |= {request.id: request for request in requests}
            lacks = not known.plays and self._weights.lacks(known.held, self._dispatcher.policies)
            if not (tickets or requests or lacks or known.asked or self._dispatcher.leases(name)):
                return
            needed = self._needed_by(name, known)
            loads, drops = self._weights.due(known.held, needed, self._dispatcher.policies)
            needs = self._weights.needs(needed)
            if not known.answers:  # it asks those that have the weights
                loads = [replace(load, buckets=()) for load in loads]
            orders = Orders(known.facts.incarnation, loads, drops, needs, tickets, requests)
            if not known.calls:
                known.heard = time.monotonic()
            known.calls.append(self._crew.order(name, self._client, orders))

    def _share_of_requests(self) -> list[Request]:
        """As many of the requests that wait as one of the players is to answer."""
        ready = sum(known.answers for known in self._known.values())
        num = -(-len(self._requests) // max(1, ready))
        taken, self._requests = self._requests[:num], self._requests[num:]
        return taken

    def _needed_by(self, name: str, known: Member) -> set[PolicyId]:
        """Policies that a player has to answer for: of games that others play, those of all."""
        if not known.plays:
            return {*self._dispatcher.policies(), *(request.policy for request in known.asked.values())}
        playing = {policy for ticket in self._dispatcher.leases(name) for policy in ticket.draw.policies}
        return playing | {request.policy for request in known.asked.values()}

    def _hear(self, call: Call) -> None:
        name = next((name for name, known in self._known.items() if call in known.calls), None)
        try:
            answer = self._crew.answer(call)
        except PlayerLost as lost:
            if name is not None:
                self._known[name].calls.remove(call)
                self._lose(name, str(lost))
            return
        if name is None:  # of a player that is gone for good
            return
        known = self._known[name]
        known.calls.remove(call)
        known.heard = time.monotonic()
        if isinstance(answer, Facts):
            known.facts = answer
            if answer.plays:
                self._dispatcher.join(name, answer.since)
            return
        assert isinstance(answer, Report)
        if known.facts is None or answer.incarnation != known.facts.incarnation or answer.was_refused:
            self._lose(name, answer.problem or "another process took its place")
        else:
            self._take(name, known, answer)

    def _take(self, name: str, known: Member, report: Report) -> None:
        self.results.spans += [replace(span, lane=span.lane or name) for span in report.spans]
        for sentence in report.said:
            self._on_said(f"{name}: {sentence}")
        for ticket, voided in report.voided:
            if ticket in self._dispatcher.leases(name):
                self.results.voided.append((ticket, voided))
        for ticket in report.returned:
            if self._dispatcher.end(name, ticket):
                self.results.returned.append(ticket)
        for ticket, episodes in report.finished:
            self.results.played += episodes
            if self._dispatcher.end(name, ticket):  # counted once, whatever other player played it too
                self.results.finished[ticket.key] = time.monotonic(), episodes
        for completion in report.completions:
            if known.asked.pop(completion.request_id, None) is not None:
                self.results.completions.append(completion)

    def _lose(self, name: str, reason: str) -> None:
        """A player's process is gone: others, or the process that takes its place, begin its work again."""
        known = self._known[name]
        if known.facts is not None:
            tickets = self._dispatcher.leave(name)
            self._requests += known.asked.values()
            sentence = (
                f"{name} ({known.where}) was lost with {len(tickets)} groups of "
                f"games and {len(known.asked)} requests, which are begun again: {reason}"
            )
            self.num_losses += 1
            self._on_loss(sentence)
        known.is_gone()
