"""What the pages ask of the past: matches that ended, and a player's results by opponent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from spiral.api.policies import Rating
from spiral.api.records import outcome, outcome_of, outcome_word
from spiral.arena import database as db
from spiral.arena.records import OVERALL, Player
from spiral.arena.store import Store, as_player

PROVISIONAL = 10
"""Matches that a rating rests on before it is shown without a mark."""
MAX_MATCHES = 5_000
"""The latest matches of a player that its results are counted over."""


@dataclass(frozen=True)
class EndedMatch:
    """A match that ended, without its moves."""

    id: int
    game: str
    players: tuple[Player, ...]
    """One a seat."""
    ending: str
    returns: tuple[float, ...] | None
    """None of a voided match."""
    ended: float

    def outcome(self, seat: int) -> str:
        """Of a seat: win, draw, loss, or voided."""
        if self.returns is None:
            return "voided"
        return outcome_word(outcome_of(self.returns, seat))


@dataclass
class Against:
    """Results against one opponent, or against all guests."""

    opponent: str
    wins: int = 0
    draws: int = 0
    losses: int = 0

    @property
    def matches(self) -> int:
        """How many."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float:
        """Between 0 and 1; a draw is half a win."""
        return (self.wins + self.draws / 2) / self.matches


@dataclass(frozen=True)
class GameRating:
    """A player's rating in one game; the game is empty for all together."""

    game: str
    rating: Rating
    matches: int


class History:
    """Reads only. Each method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def recent(self, game: str | None = None, player: Player | None = None, limit: int = 20) -> list[EndedMatch]:
        """The matches that ended last, newest first."""
        with self._database.read() as connection:
            return _ended(connection, game, player, limit)

    def latest(self, game: str) -> int | None:
        """The match of a game that was finished by its rules last."""
        c = db.matches.c
        asked = select(c.id).where(c.game == game, c.ending == "finished").order_by(c.ended_as.desc()).limit(1)
        with self._database.read() as connection:
            return connection.scalar(asked)

    def ratings(self, player: Player) -> list[GameRating]:
        """Over all games first, then by game."""
        c = db.ratings.c
        with self._database.read() as connection:
            rows = connection.execute(select(db.ratings).where(c.player == player.rated_as).order_by(c.game)).all()
        return [GameRating(row.game, Rating(row.mu, row.sigma), row.matches) for row in rows]

    def results(self, player: Player) -> list[Against]:
        """By opponent, the one that was met most first. In a match of several each other player counts as one; guests
        count together, and a match between them not at all."""
        found: dict[str, Against] = {}
        with self._database.read() as connection:
            matches = _ended(connection, None, player, MAX_MATCHES)
            named = _names(connection, {one.rated_as for match in matches for one in match.players})
        for match in matches:
            own = next(n for n, one in enumerate(match.players) if player.id in (one.id, one.rated_as))
            for seat, one in enumerate(match.players):
                if match.returns is None or one.rated_as == player.rated_as:
                    continue
                against = found.setdefault(named[one.rated_as], Against(named[one.rated_as]))
                word = outcome_word(outcome(match.returns[own], match.returns[seat]))
                against.wins += word == "win"
                against.draws += word == "draw"
                against.losses += word == "loss"
        return sorted(found.values(), key=lambda one: (-one.matches, one.opponent))


def _ended(connection: Connection, game: str | None, player: Player | None, limit: int) -> list[EndedMatch]:
    asked = select(db.matches).where(db.matches.c.ended_as.is_not(None))
    if game is not None and game != OVERALL:
        asked = asked.where(db.matches.c.game == game)
    if player is not None:
        own = or_(db.players.c.id == player.id, db.players.c.rated_as == player.id)
        taken = select(db.seats.c.match).join(db.players, db.players.c.id == db.seats.c.player).where(own)
        asked = asked.where(db.matches.c.id.in_(taken))
    rows = connection.execute(asked.order_by(db.matches.c.ended_as.desc()).limit(limit)).all()
    players = _players(connection, [row.id for row in rows])
    return [
        EndedMatch(
            row.id, row.game, tuple(players[row.id]), row.ending or "",
            None if row.returns is None else tuple(row.returns), row.ended,
        )
        for row in rows
    ]  # fmt: skip


def _players(connection: Connection, matches: Sequence[int]) -> dict[int, list[Player]]:
    found: dict[int, list[Player]] = {match: [] for match in matches}
    for begin in range(0, len(matches), 500):  # a statement takes a limited number of values
        asked = (
            select(db.seats.c.match, db.players)
            .join(db.players, db.players.c.id == db.seats.c.player)
            .where(db.seats.c.match.in_(matches[begin : begin + 500]))
            .order_by(db.seats.c.match, db.seats.c.seat)
        )
        for row in connection.execute(asked):
            found[row.match].append(as_player(row))
    return found


def _names(connection: Connection, players: set[int]) -> dict[int, str]:
    c, known = db.players.c, list(players)
    found: dict[int, str] = {}
    for begin in range(0, len(known), 500):
        rows = connection.execute(select(c.id, c.name).where(c.id.in_(known[begin : begin + 500])))
        found.update({row.id: row.name for row in rows})
    return found
