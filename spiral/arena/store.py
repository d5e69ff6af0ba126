"""What the arena keeps: players, matches with their moves, and ratings that count each match exactly once."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.arena import database as db
from spiral.theory.ratings import rate

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


class NameTaken(SpiralError):
    """Raised for a name that another player has."""


class Store:
    """All that outlives the process. Each method is one transaction."""

    def __init__(self, database: db.Database, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def add_player(self, name: str, kind: Kind, description: str = "") -> tuple[Player, str]:
        """A new player and the token that is its own, which is kept nowhere. Raises NameTaken."""
        token = secrets.token_urlsafe(24)
        return self.add_player_with_token(name, kind, token, description), token

    def add_player_with_token(self, name: str, kind: Kind, token: str, description: str = "") -> Player:
        """A new player whose token was made elsewhere. Raises NameTaken."""
        try:
            with self._database.write() as connection:
                rated_as = _humanity(connection, self._now()) if kind == "guest" else None
                values = {"name": name, "kind": kind, "description": description, "rated_as": rated_as}
                new = connection.execute(insert(db.players).values(**values, created=self._now()))
                (number,) = new.inserted_primary_key or (0,)
                row = {"hash": _hashed(token), "player": number, "created": self._now()}
                connection.execute(insert(db.tokens).values(**row))
        except IntegrityError as error:
            raise NameTaken(f"the name '{name}' is taken; choose another") from error
        return Player(number, name, kind, description, rated_as or number)

    def house_player(self, name: str, description: str = "") -> Player:
        """The house's player of that name, made where it is new. Raises NameTaken where another player has it."""
        with self._database.write() as connection:
            row = connection.execute(select(db.players).where(db.players.c.name == name)).one_or_none()
            if row is None:
                values = {"name": name, "kind": "house", "description": description, "created": self._now()}
                new = connection.execute(insert(db.players).values(**values))
                (number,) = new.inserted_primary_key or (0,)
                return Player(number, name, "house", description, number)
            if row.kind != "house":
                raise NameTaken(f"the house player '{name}' has the name of a {row.kind}; name it otherwise")
            return _player(row)

    def player_by_token(self, token: str) -> Player | None:
        """Whose token it is. Only its hash is looked up, so the time that takes tells nothing of the token."""
        with self._database.read() as connection:
            join = db.tokens.join(db.players)
            row = connection.execute(
                select(db.players).select_from(join).where(db.tokens.c.hash == _hashed(token))
            ).one_or_none()
        return None if row is None else _player(row)

    def player_by_name(self, name: str) -> Player | None:
        """The player of that name."""
        with self._database.read() as connection:
            row = connection.execute(select(db.players).where(db.players.c.name == name)).one_or_none()
        return None if row is None else _player(row)

    def start_match(self, game: str, seed: int, players: Sequence[int]) -> int:
        """The number of a new match with these players, one a seat."""
        with self._database.write() as connection:
            values = {"game": game, "seed": seed, "status": "playing", "started": self._now()}
            new = connection.execute(insert(db.matches).values(**values))
            (match,) = new.inserted_primary_key or (0,)
            rows = [{"match": match, "seat": seat, "player": player} for seat, player in enumerate(players)]
            connection.execute(insert(db.seats), rows)
        return int(match)

    def add_move(self, match: int, number: int, move: Move) -> None:
        """Keep the `number`-th turn of a match, counted from 0."""
        with self._database.write() as connection:
            values = {"seat": move.seat, "move": move.move, "said": move.said, "legal": move.legal}
            connection.execute(insert(db.moves).values(match=match, number=number, **values, made=self._now()))

    def finish_match(
        self, match: int, returns: Sequence[float], ending: Ending, offender: int | None = None
    ) -> list[RatingChange]:
        """End a match and update the ratings of its players, for its game and over all games. A match that has ended
        already stays as it is, and the changes that it made then are given again: its end may come on several ways."""
        with self._database.write() as connection:
            row = connection.execute(select(db.matches).where(db.matches.c.id == match).with_for_update()).one()
            if row.status != "playing":
                return _changes(connection, match)
            changes = _rated(connection, match, row.game, returns)
            self._end(connection, match, "finished", {
                "ending": ending, "offender": offender, "returns": list(returns), "rated": bool(changes),
            })  # fmt: skip
        return changes

    def void_match(self, match: int, cause: str) -> None:
        """End a match that changes no rating."""
        with self._database.write() as connection:
            status = connection.scalar(select(db.matches.c.status).where(db.matches.c.id == match).with_for_update())
            if status == "playing":
                self._end(connection, match, "voided", {"ending": cause[:16], "rated": False})

    def unfinished(self) -> list[StoredMatch]:
        """The matches that were in play, oldest first: of a server that was killed, those to go on with."""
        with self._database.read() as connection:
            playing = select(db.matches.c.id).where(db.matches.c.status == "playing").order_by(db.matches.c.id)
            return [_stored(connection, match) for match in connection.scalars(playing)]

    def match(self, match: int) -> StoredMatch | None:
        """A match of any status."""
        with self._database.read() as connection:
            known = connection.scalar(select(db.matches.c.id).where(db.matches.c.id == match))
            return None if known is None else _stored(connection, match)

    def rating(self, player: int, game: str = OVERALL) -> Rating:
        """Of a player in a game; that of a new player before its first match."""
        with self._database.read() as connection:
            return _rating(connection, player, game)[0]

    def leaderboard(self, game: str = OVERALL, limit: int = 100) -> list[Standing]:
        """The players that played, by what their skill is with near certainty (mu - 3 sigma), best first."""
        low = db.ratings.c.mu - 3 * db.ratings.c.sigma
        asked = (
            select(db.ratings, db.players)
            .select_from(db.ratings.join(db.players))
            .where(db.ratings.c.game == game)
            .order_by(low.desc(), db.players.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(asked).mappings().all()
        return [
            Standing(
                Player(
                    row[db.players.c.id], row[db.players.c.name], row[db.players.c.kind],
                    row[db.players.c.description], row[db.players.c.rated_as] or row[db.players.c.id],
                ),
                Rating(row[db.ratings.c.mu], row[db.ratings.c.sigma]),
                row[db.ratings.c.matches],
            )
            for row in rows
        ]  # fmt: skip

    def seats_taken(self, game: str, players: Sequence[int]) -> dict[int, dict[int, int]]:
        """Player -> seat -> how often it sat there in matches of the game."""
        asked = (
            select(db.seats.c.player, db.seats.c.seat, func.count())
            .select_from(db.seats.join(db.matches))
            .where(db.matches.c.game == game, db.seats.c.player.in_(players))
            .group_by(db.seats.c.player, db.seats.c.seat)
        )
        taken: dict[int, dict[int, int]] = {player: {} for player in players}
        with self._database.read() as connection:
            for player, seat, count in connection.execute(asked):
                taken[player][seat] = count
        return taken

    def _end(self, connection: Connection, match: int, status: str, values: dict[str, Any]) -> None:
        ended_as = (connection.scalar(select(func.max(db.matches.c.ended_as))) or 0) + 1
        row = {"status": status, "ended": self._now(), "ended_as": ended_as, **values}
        connection.execute(update(db.matches).where(db.matches.c.id == match).values(**row))


def _rated(connection: Connection, match: int, game: str, returns: Sequence[float]) -> list[RatingChange]:
    """Update the ratings as they are now, which other matches may have changed since this one began."""
    rated = db.players.join(db.seats, db.seats.c.player == db.players.c.id)
    asked = select(func.coalesce(db.players.c.rated_as, db.players.c.id)).select_from(rated)
    players = list(connection.scalars(asked.where(db.seats.c.match == match).order_by(db.seats.c.seat)))
    if len(players) < 2 or len(set(players)) < len(players):
        return []  # alone, or against itself, as two guests are: nothing is learnt of its skill
    changes = []
    for name in (game, OVERALL):
        before = [_rating(connection, player, name) for player in players]
        after = rate([rating for rating, _ in before], returns)
        for seat, player in enumerate(players):
            (old, played), new = before[seat], after[seat]
            values = {"mu": new.mu, "sigma": new.sigma, "matches": played + 1}
            if played:
                where = (db.ratings.c.player == player) & (db.ratings.c.game == name)
                connection.execute(update(db.ratings).where(where).values(**values))
            else:
                connection.execute(insert(db.ratings).values(player=player, game=name, **values))
            connection.execute(
                insert(db.rating_changes).values(
                    match=match, seat=seat, game=name, player=player,
                    mu_before=old.mu, sigma_before=old.sigma, mu=new.mu, sigma=new.sigma,
                )
            )  # fmt: skip
            changes.append(RatingChange(seat, player, name, old, new))
    return changes


def _rating(connection: Connection, player: int, game: str) -> tuple[Rating, int]:
    """A rating, and of how many matches."""
    where = (db.ratings.c.player == player) & (db.ratings.c.game == game)
    row = connection.execute(select(db.ratings).where(where).with_for_update()).one_or_none()
    return (Rating(), 0) if row is None else (Rating(row.mu, row.sigma), row.matches)


def _changes(connection: Connection, match: int) -> list[RatingChange]:
    c = db.rating_changes.c
    rows = connection.execute(select(db.rating_changes).where(c.match == match).order_by(c.game.desc(), c.seat))
    return [
        RatingChange(row.seat, row.player, row.game, Rating(row.mu_before, row.sigma_before), Rating(row.mu, row.sigma))
        for row in rows
    ]


def _stored(connection: Connection, match: int) -> StoredMatch:
    row = connection.execute(select(db.matches).where(db.matches.c.id == match)).one()
    sitting = db.players.join(db.seats, db.seats.c.player == db.players.c.id)
    people = select(db.players).select_from(sitting).where(db.seats.c.match == match).order_by(db.seats.c.seat)
    made = select(db.moves).where(db.moves.c.match == match).order_by(db.moves.c.number)
    return StoredMatch(
        row.id, row.game, row.seed,
        tuple(map(_player, connection.execute(people))),
        tuple(Move(m.seat, m.move, m.said, m.legal) for m in connection.execute(made)),
        row.status, row.ending,
        None if row.returns is None else tuple(row.returns),
    )  # fmt: skip


def _humanity(connection: Connection, now: float) -> int:
    known = connection.scalar(select(db.players.c.id).where(db.players.c.name == HUMANITY))
    if known is not None:
        return int(known)
    new = connection.execute(insert(db.players).values(name=HUMANITY, kind="person", description="", created=now))
    (number,) = new.inserted_primary_key or (0,)
    return int(number)


def _player(row: Any) -> Player:
    return Player(row.id, row.name, row.kind, row.description, row.rated_as or row.id)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
