"""Who meets whom in a tournament: line-ups in which every chair is shared evenly, and the next pair by rating.

Players are numbers; knows neither what they are nor what they play.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

LineUp = tuple[int, ...]
"""The player at each chair."""

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
        """All who take part, ascending."""
        return tuple(sorted({player for line_up in self.line_ups for player in line_up}))

    @property
    def num_games(self) -> int:
        return len(self.line_ups) * self.num_deals


def round_robin(names: Sequence[str], num_chairs: int, num_games: int) -> list[Block]:
    """Everybody against everybody: at least `num_games` games a pair, and in whole deals.

    With one chair, all play the same `num_games` deals alone. With more than two, mixed tables come to the pairs, as
    many as there are players; everybody sits at `num_chairs` of them, for about `num_games` games.
    """
    if num_chairs == 1:
        return [Block("alone", tuple((player,) for player in range(len(names))), num_games)]
    blocks = [pair(names, *two, num_chairs, num_games) for two in combinations(range(len(names)), 2)]
    if num_chairs > 2 and len(names) > 2:
        blocks += _mixed(names, num_chairs, num_games)
    return blocks


def pair(names: Sequence[str], one: int, other: int, num_chairs: int, num_games: int) -> Block:
    """Two players against each other, in every seating."""
    line_ups = head_to_head(one, other, num_chairs)
    return Block(" - ".join(sorted((names[one], names[other]))), line_ups, -(-num_games // len(line_ups)))


def head_to_head(one: int, other: int, num_chairs: int) -> tuple[LineUp, ...]:
    """Each of two players at each chair, the other one at all that are left; every line-up once."""
    seatings = [(one, *[other] * (num_chairs - 1)), (other, *[one] * (num_chairs - 1))]
    return tuple(dict.fromkeys(turned for seating in seatings for turned in rotations(seating)))


def rotations(seating: LineUp) -> tuple[LineUp, ...]:
    """Everybody moved on by 0, 1, ... chairs, so that each sits at each chair once."""
    return tuple(seating[-shift:] + seating[:-shift] for shift in range(len(seating)))


def next_pair(
    players: Sequence[int],
    ratings: Mapping[int, float],
    played: Mapping[int, int],
    met: Mapping[tuple[int, int], int],
    rng: random.Random,
) -> tuple[int, int]:
    """Who plays next: the player with the fewest games, against the one nearest in rating, ascending.

    Every earlier meeting of the two counts as `SPREAD` / 2 of distance, so that all meet in the end.
    """
    order = rng.sample(list(players), len(players))  # who is first among equals
    one = min(order, key=lambda player: played.get(player, 0))

    def distance(other: int) -> float:
        two = (min(one, other), max(one, other))
        return abs(ratings[one] - ratings[other]) + SPREAD / 2 * met.get(two, 0)

    other = min((player for player in order if player != one), key=distance)
    return min(one, other), max(one, other)


def _mixed(names: Sequence[str], num_chairs: int, num_games: int) -> list[Block]:
    """As many tables as players, dealt from shuffled decks of all of them, each with every rotation of its seating."""
    rng = random.Random("/".join(names))
    deck: list[int] = []
    while len(deck) < len(names) * num_chairs:
        deck += rng.sample(range(len(names)), len(names))
    tables = [tuple(deck[i * num_chairs : (i + 1) * num_chairs]) for i in range(len(names))]
    num_deals = -(-num_games // num_chairs**2)
    return [Block(f"table {i}", rotations(table), num_deals) for i, table in enumerate(tables)]
