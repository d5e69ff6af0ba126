"""What the arena's tables hold, as values: players, moves, matches and changes of ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spiral.api.policies import Rating

Kind = Literal["person", "guest", "model", "house"]
Ending = Literal["finished", "illegal", "timeout", "left", "cut"]

OVERALL = ""
"""In place of a game: the rating over all games."""
HUMANITY = "Humanity"
"""The one entry under which all guests are rated."""


@dataclass(frozen=True)
class Player:
    """Of the arena."""

    id: int
    name: str
    kind: Kind
    description: str
    rated_as: int
    """Whose rating its matches change: its own, or that of all guests."""


@dataclass(frozen=True)
class RatingChange:
    """What one match did to one rating."""

    seat: int
    player: int
    game: str
    before: Rating
    after: Rating


@dataclass(frozen=True)
class Standing:
    """A line of the leaderboard."""

    player: Player
    rating: Rating
    matches: int


@dataclass(frozen=True)
class Move:
    """One turn of a match."""

    seat: int
    move: str
    said: str
    legal: bool


@dataclass(frozen=True)
class StoredMatch:
    """A match as far as it was played."""

    id: int
    game: str
    seed: int
    players: tuple[Player, ...]
    """One a seat."""
    moves: tuple[Move, ...]
    status: str
    ending: str | None
    returns: tuple[float, ...] | None
