"""Who plays whom: by distance in rating, which may be larger the longer a player waits; pure arithmetic on a queue."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spiral.api.policies import Rating

DISTANCE = 5.0
"""In mu, between players that do not wait: the better of two wins about three of four games there."""
DISTANCE_A_SECOND = 1.0
"""How much further apart two players may be for each second that the one who waits longer has waited."""
REMATCH_S = 15.0
"""How long a player waits before the last opponent will do again."""
MAX_PERMUTED = 5
"""Players whose every order is tried for the seats; more sit by chance."""


@dataclass(frozen=True)
class Waiting:
    """A player in the queue."""

    player: int
    ratings: Mapping[str, Rating]
    """Of the games that it would play."""
    since: float
    last_opponents: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Pairing:
    """A match to be started."""

    game: str
    players: tuple[int, ...]
    """In no order; see `seated`."""


class Queue:
    """The players that wait, at most once each."""

    def __init__(self, num_players: Mapping[str, int]) -> None:
        """`num_players`: of each game."""
        self._num_players = num_players
        self._waiting: dict[int, Waiting] = {}

    def join(self, waiting: Waiting) -> None:
        """A player that waits already keeps the time that it has waited, and may name other games."""
        before = self._waiting.get(waiting.player)
        if before is not None:
            waiting = Waiting(waiting.player, waiting.ratings, before.since, waiting.last_opponents)
        self._waiting[waiting.player] = waiting

    def leave(self, player: int) -> None:
        """Nothing for one that does not wait."""
        self._waiting.pop(player, None)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, player: int) -> bool:
        return player in self._waiting

    def pairings(self, now: float) -> list[Pairing]:
        """All matches that can be made, which leave the queue; who waits longest is served first."""
        found = []
        for waiting in sorted(self._waiting.values(), key=lambda one: one.since):
            if waiting.player in self._waiting and (pairing := self._pairing(waiting, now)) is not None:
                found.append(pairing)
                for player in pairing.players:
                    self.leave(player)
        return found

    def longest(self, now: float, seconds: float) -> list[Waiting]:
        """Who has waited so long, longest first: the house plays those."""
        late = [one for one in self._waiting.values() if now - one.since >= seconds]
        return sorted(late, key=lambda one: one.since)

    def _pairing(self, waiting: Waiting, now: float) -> Pairing | None:
        """The match of the smallest distance that this player can have."""
        possible = []
        for game, rating in waiting.ratings.items():
            others = [one for one in self._waiting.values() if _suits(waiting, one, game, now)]
            others.sort(key=lambda one: abs(one.ratings[game].mu - rating.mu))
            missing = self._num_players[game] - 1
            if 1 <= missing <= len(others):
                chosen = others[:missing]
                distance = abs(chosen[-1].ratings[game].mu - rating.mu)
                possible.append((distance, game, tuple(one.player for one in chosen)))
        if not possible:
            return None
        _, game, opponents = min(possible)
        return Pairing(game, (waiting.player, *opponents))


def _suits(one: Waiting, other: Waiting, game: str, now: float) -> bool:
    if other.player == one.player or game not in other.ratings:
        return False
    waited = now - min(one.since, other.since)
    met = other.player in one.last_opponents or one.player in other.last_opponents
    near = abs(one.ratings[game].mu - other.ratings[game].mu) <= DISTANCE + DISTANCE_A_SECOND * waited
    return near and (not met or waited >= REMATCH_S)


def seated(players: Sequence[int], taken: Mapping[int, Mapping[int, int]], rng: random.Random) -> tuple[int, ...]:
    """The players in the order of their seats: each where it sat least often, by `taken` (player -> seat -> matches);
    by chance among orders that are equally good."""
    order = list(players)
    rng.shuffle(order)
    if len(order) > MAX_PERMUTED:
        return tuple(order)

    def repeated(seats: Sequence[int]) -> int:
        return sum(taken.get(player, {}).get(seat, 0) for seat, player in enumerate(seats))

    return min(itertools.permutations(order), key=repeated)
