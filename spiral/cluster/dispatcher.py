"""Decides which player plays which group of games, and counts each group once; knows neither clocks nor processes, so
that a simulation runs the same code."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from spiral.cluster.orders import Key, Ticket


def admitted(step: int, staleness: int, num_steps: int) -> int:
    """The last step whose games may begin while the learner is at `step`, so that none is older than the bound when it
    is used, whenever it ends: each step trains on its own games alone."""
    return min(step + staleness, num_steps - 1)


class Dispatcher:
    """The groups that are asked for and not finished, the oldest first."""

    def __init__(self, window: int) -> None:
        """`window`: groups that one player has at once, at most."""
        self._window = window
        self._queue: list[tuple[Key, Ticket]] = []
        self._single: list[tuple[Key, Ticket]] = []
        """Those for one player: that which is there longest, by which all clients agree on one."""
        self._since: dict[str, float] = {}
        self._leases: dict[str, dict[Key, Ticket]] = {}
        self._num_leased = 0

    @property
    def num_open(self) -> int:
        """Groups that wait or are being played."""
        return len(self._queue) + len(self._single) + self._num_leased

    @property
    def players(self) -> list[str]:
        return list(self._leases)

    @property
    def _host(self) -> str:
        return min(self._leases, key=lambda player: (self._since[player], player))

    def leases(self, player: str) -> list[Ticket]:
        """What a player has not finished."""
        return list(self._leases.get(player, {}).values())

    def join(self, player: str, since: float = 0.0) -> None:
        """A player is there."""
        self._leases.setdefault(player, {})
        self._since[player] = since

    def leave(self, player: str) -> list[Ticket]:
        """A player is gone: its groups wait again, in their old place; which."""
        tickets = list(self._leases.pop(player, {}).values())
        self._num_leased -= len(tickets)
        self.add(tickets)
        return tickets

    def clear(self) -> None:
        """Nothing is asked for any more."""
        self._queue.clear()
        self._single.clear()
        self._num_leased = 0
        for mine in self._leases.values():
            mine.clear()

    def add(self, tickets: Iterable[Ticket]) -> None:
        """Groups are asked for."""
        for ticket in tickets:
            heapq.heappush(self._single if ticket.is_single else self._queue, (ticket.key, ticket))

    def take(self, player: str) -> list[Ticket]:
        """The groups that a player is given now: up to an equal part of all that are not finished. None is held back
        for who is done first: games last as long as their replies, however many an engine plays at once."""
        mine = self._leases[player]
        fair = min(self._window, math.ceil(self.num_open / len(self._leases)))
        # What one player alone can play is no part of an equal share.
        queues = [(self._queue, fair), (self._single, self._window if player == self._host else 0)]
        taken: list[Ticket] = []
        while waiting := [queue for queue, most in queues if queue and len(mine) < most]:
            key, ticket = heapq.heappop(min(waiting, key=lambda queue: queue[0][0]))
            mine[key] = ticket
            self._num_leased += 1
            taken.append(ticket)
        return taken

    def end(self, player: str, ticket: Ticket) -> bool:
        """A player has done with a group; False where that does not count, since another has it by now, or had."""
        mine = self._leases.get(player, {})
        if mine.get(ticket.key) != ticket:
            return False
        del mine[ticket.key]
        self._num_leased -= 1
        return True

    def policies(self) -> set[str]:
        """All that play in the groups."""
        queued = (ticket for queue in (self._queue, self._single) for _, ticket in queue)
        leased = (ticket for leases in self._leases.values() for ticket in leases.values())
        return {policy for tickets in (queued, leased) for ticket in tickets for policy in ticket.draw.policies}
