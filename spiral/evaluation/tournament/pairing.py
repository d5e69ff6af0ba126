"""The line-ups of a tournament: each entrant plays evenly as every player of the game; and the next pair by rating.

Entrants are numbers here, and a place is the number of a player in the game.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

LineUp = tuple[int, ...]
"""The entrant at each place."""

SPREAD = 25 / 6
"""How far ratings (mu) of two players lie apart when the better one wins about three of four games."""


@dataclass(frozen=True)
class Block:
    """Line-ups that are all played from each of `num_deals` deals."""

    name: str
    """Unique in its tournament; the deals descend from it."""
    line_ups: tuple[LineUp, ...]
    num_deals: int

    @property
    def players(self) -> tuple[int, ...]:
        """All entrants that take part, ascending."""
        return tuple(sorted({player for line_up in self.line_ups for player in line_up}))

    @property
    def num_games(self) -> int:
        return len(self.line_ups) * self.num_deals


def round_robin(names: Sequence[str], num_places: int, num_games: int) -> list[Block]:
    """Every entrant against every other: at least `num_games` games a pair, and in whole deals.

    With one place, all play the same `num_games` deals alone. With more than two, mixed line-ups are added to the
    pairs, as many as there are entrants; each entrant is in `num_places` of them, for about `num_games` games.
    """
    if num_places == 1:
        return [Block("alone", tuple((player,) for player in range(len(names))), num_games)]
    blocks = [pair(names, *two, num_places, num_games) for two in combinations(range(len(names)), 2)]
    if num_places > 2 and len(names) > 2:
        blocks += _mixed(names, num_places, num_games)
    return blocks


def pair(names: Sequence[str], one: int, other: int, num_places: int, num_games: int) -> Block:
    """Two entrants against each other, in every arrangement."""
    line_ups = head_to_head(one, other, num_places)
    return Block(" - ".join(sorted((names[one], names[other]))), line_ups, -(-num_games // len(line_ups)))


def head_to_head(one: int, other: int, num_places: int) -> tuple[LineUp, ...]:
    """Each of two entrants at each place, the other one at all that are left; every line-up once."""
    arrangements = [(one, *[other] * (num_places - 1)), (other, *[one] * (num_places - 1))]
    return tuple(dict.fromkeys(turned for line_up in arrangements for turned in rotations(line_up)))


def rotations(line_up: LineUp) -> tuple[LineUp, ...]:
    """A line-up moved on by 0, 1, ... places, so that each entrant is at each place once."""
    return tuple(line_up[-shift:] + line_up[:-shift] for shift in range(len(line_up)))


def next_pair(
    players: Sequence[int],
    ratings: Mapping[int, float],
    played: Mapping[int, int],
    met: Mapping[tuple[int, int], int],
    rng: random.Random,
) -> tuple[int, int]:
    """The next two to play: the player with the fewest games, against the one nearest in rating, ascending.

    Every earlier meeting of the two counts as `SPREAD` / 2 of distance, so that all meet in the end.
    """
    order = rng.sample(list(players), len(players))  # decides among equals
    one = min(order, key=lambda player: played.get(player, 0))

    def distance(other: int) -> float:
        two = (min(one, other), max(one, other))
        return abs(ratings[one] - ratings[other]) + SPREAD / 2 * met.get(two, 0)

    other = min((player for player in order if player != one), key=distance)
    return min(one, other), max(one, other)


def _mixed(names: Sequence[str], num_places: int, num_games: int) -> list[Block]:
    """As many line-ups as entrants, dealt from shuffled decks of all of them, each with every rotation."""
    rng = random.Random("/".join(names))
    deck: list[int] = []
    while len(deck) < len(names) * num_places:
        deck += rng.sample(range(len(names)), len(names))
    line_ups = [tuple(deck[i * num_places : (i + 1) * num_places]) for i in range(len(names))]
    num_deals = -(-num_games // num_places**2)
    return [Block(f"table {i}", rotations(line_up), num_deals) for i, line_up in enumerate(line_ups)]
