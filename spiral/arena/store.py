"""What the arena keeps: players, matches with their moves, and ratings that count each match exactly once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.arena import database as db
from spiral.arena import match_log
from spiral.arena.records import (
    HUMANITY,
    OVERALL,
    Kind,
    Move,
    Player,
    Standing,
    StoredMatch,
)
from spiral.arena.writing import Writer

P = ParamSpec("P")
T = TypeVar("T")

SEATS_SEEN = 200
"""Matches of a player by which its seats are balanced."""


class NameTaken(SpiralError):
    """Raised for a name that another player has."""


class Store:
    """All that outlives the process. Each method is one transaction; those that write wait until it is kept."""

    def __init__(self, database: db.Database, replaced: Callable[[], None] | None = None) -> None:
        """`replaced`: see `Writer`."""
        self._database, self._writer = database, Writer(database, replaced)

    async def later(self, write: Callable[Concatenate[Connection, P], T], *args: P.args, **options: P.kwargs) -> T:
        """Do a write of `spiral.arena.match_log` without a thread that waits; the caller may go away meanwhile."""
        # Shielded: what was begun for one caller is written even if its connection is gone.
        return await asyncio.shield(asyncio.wrap_future(self._writer.submit(write, *args, **options)))

    def now(self, write: Callable[Concatenate[Connection, P], T], *args: P.args, **options: P.kwargs) -> T:
        """Do a write, such as one of `spiral.arena.match_log`, and wait until it is kept."""
        return self._writer.submit(write, *args, **options).result()

    def close(self) -> None:
        """Keep what was asked for, and end the thread that writes."""
        self._writer.close()

    @property
    def database(self) -> db.Database:
        """For what reads only."""
        return self._database

    def add_player(self, name: str, kind: Kind, description: str = "") -> tuple[Player, str]:
        """A new player and the token that is its own, which is kept nowhere. Raises NameTaken."""
        token = secrets.token_urlsafe(24)
        return self.add_player_with_token(name, kind, token, description), token

    def add_player_with_token(self, name: str, kind: Kind, token: str, description: str = "") -> Player:
        """A new player whose token was made elsewhere. Raises NameTaken."""
        try:
            return self.now(_add_player, name, kind, token, db.storable(description))
        except IntegrityError as error:
            raise NameTaken(f"the name '{name}' is taken; choose another") from error

    def house_player(self, name: str, description: str = "") -> Player:
        """The house's player of that name, made where it is new. Raises NameTaken where another player has it, and
        SpiralError for a name that is too long."""
        if len(name) > db.MAX_NAME:
            raise SpiralError(
                f"the house player '{name[:40]}…' has a name of {len(name)} characters, and {db.MAX_NAME} are kept; "
                "name its folder by a shorter path"
            )
        return self.now(_house_player, name, description)

    def player_by_token(self, token: str) -> Player | None:
        """Whose token it is; None for one that was banned, too. Only its hash is looked up, so the time that takes
        tells nothing of the token."""
        with self._database.read() as connection:
            return _of_token(connection, token)

    def player_by_name(self, name: str) -> Player | None:
        """The player of that name."""
        with self._database.read() as connection:
            row = connection.execute(select(db.players).where(db.players.c.name == db.storable(name))).one_or_none()
        return None if row is None else as_player(row)

    def unfinished(self) -> list[StoredMatch]:
        """The matches that were in play, oldest first: of a server that was killed, those to go on with."""
        with self._database.read() as connection:
            playing = select(db.matches.c.id).where(db.matches.c.status == "playing").order_by(db.matches.c.id)
            return [_stored(connection, match) for match in connection.scalars(playing)]

    def match(self, match: int) -> StoredMatch | None:
        """A match of any status."""
        with self._database.read() as connection:
            known = connection.scalar(select(db.matches.c.id).where(db.matches.c.id == min(match, db.MAX_NUMBER)))
            return None if known is None else _stored(connection, match)

    def ended(self, after: int, limit: int, game: str = OVERALL) -> list[tuple[int, StoredMatch]]:
        """At most `limit` matches that ended and count, in the order in which they ended, each with its place in that
        order; those that ended after the `after`-th, of one game or of all."""
        c = db.matches.c
        asked = select(c.ended_as, c.id).where(c.status == "finished", c.ended_as > min(after, db.MAX_NUMBER))
        if game != OVERALL:
            asked = asked.where(c.game == game)
        with self._database.read() as connection:
            rows = connection.execute(asked.order_by(c.ended_as).limit(limit)).all()
            return [(row.ended_as, _stored(connection, row.id)) for row in rows]

    def games_played(self) -> list[str]:
        """The labels of games of which a match ended."""
        asked = select(db.matches.c.game).where(db.matches.c.status == "finished").distinct()
        with self._database.read() as connection:
            return sorted(connection.scalars(asked))

    def rating(self, player: int, game: str = OVERALL) -> Rating:
        """Of a player in a game; that of a new player before its first match."""
        with self._database.read() as connection:
            return match_log.rating(connection, player, game)[0]

    def ratings(self, player: int, games: Sequence[str]) -> dict[str, Rating]:
        """Of a player in some games."""
        with self._database.read() as connection:
            return {game: match_log.rating(connection, player, game)[0] for game in games}

    def waits(self, player: int) -> tuple[list[str], float] | None:
        """The games for which a player waited, and since when, as `match_log.queued` kept it; None where it did not."""
        with self._database.read() as connection:
            row = connection.execute(select(db.waiting).where(db.waiting.c.player == player)).one_or_none()
        return None if row is None else (list(row.games), row.since)

    def forget_waiting(self, before: float) -> None:
        """Of players that began to wait before a time; called when the arena opens."""
        self.now(_forget_waiting, before)

    def leaderboard(self, game: str = OVERALL, limit: int = 100) -> list[Standing]:
        """The players that played, by what their skill is with near certainty (mu - 3 sigma), best first."""
        low = db.ratings.c.mu - 3 * db.ratings.c.sigma
        asked = (
            select(db.ratings, db.players)
            .select_from(db.ratings.join(db.players))
            .where(db.ratings.c.game == game, db.players.c.banned.is_(False))
            .order_by(low.desc(), db.players.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(asked).all()
        return [Standing(as_player(row), Rating(row.mu, row.sigma), row.matches) for row in rows]

    def seats_taken(self, game: str, players: Sequence[int]) -> dict[int, dict[int, int]]:
        """Player -> seat -> how often it had that one in matches of the game, among its last `SEATS_SEEN` matches."""
        taken: dict[int, dict[int, int]] = {}
        with self._database.read() as connection:
            for player in set(players):
                # Of its last matches only: a player of the house has many thousands.
                last = select(db.seats).where(db.seats.c.player == player)
                some = last.order_by(db.seats.c.match.desc()).limit(SEATS_SEEN).subquery()
                asked = select(some.c.seat, func.count()).join(db.matches, db.matches.c.id == some.c.match)
                rows = connection.execute(asked.where(db.matches.c.game == game).group_by(some.c.seat))
                taken[player] = {seat: count for seat, count in rows}
        return taken


def _add_player(connection: Connection, name: str, kind: Kind, token: str, description: str) -> Player:
    now = time.time()
    if connection.info.get("again") and (known := _of_token(connection, token)) is not None and known.name == name:
        return known
    rated_as = _humanity(connection, now) if kind == "guest" else None
    number = _inserted(connection, name=name, kind=kind, description=description, rated_as=rated_as, created=now)
    connection.execute(insert(db.tokens).values(hash=_hashed(token), player=number, created=now))
    return Player(number, name, kind, description, rated_as or number)


def _of_token(connection: Connection, token: str) -> Player | None:
    known = (db.tokens.c.hash == _hashed(token)) & db.players.c.banned.is_(False)
    row = connection.execute(select(db.players).select_from(db.tokens.join(db.players)).where(known)).one_or_none()
    return None if row is None else as_player(row)


def _house_player(connection: Connection, name: str, description: str) -> Player:
    row = connection.execute(select(db.players).where(db.players.c.name == name)).one_or_none()
    if row is None:
        number = _inserted(connection, name=name, kind="house", description=description, created=time.time())
        return Player(number, name, "house", description, number)
    if row.kind != "house":
        raise NameTaken(f"the house player '{name}' has the name of a {row.kind}; name it otherwise")
    return as_player(row)


def _stored(connection: Connection, match: int) -> StoredMatch:
    row = connection.execute(select(db.matches).where(db.matches.c.id == match)).one()
    sitting = db.players.join(db.seats, db.seats.c.player == db.players.c.id)
    people = select(db.players).select_from(sitting).where(db.seats.c.match == match).order_by(db.seats.c.seat)
    made = select(db.moves).where(db.moves.c.match == match).order_by(db.moves.c.number)
    return StoredMatch(
        row.id, row.game, row.seed,
        tuple(map(as_player, connection.execute(people))),
        tuple(Move(m.seat, m.move, m.said, m.legal) for m in connection.execute(made)),
        row.status, row.ending,
        None if row.returns is None else tuple(row.returns),
    )  # fmt: skip


def _forget_waiting(connection: Connection, before: float) -> None:
    connection.execute(delete(db.waiting).where(db.waiting.c.since < before))


def _humanity(connection: Connection, now: float) -> int:
    known = connection.scalar(select(db.players.c.id).where(db.players.c.name == HUMANITY))
    if known is not None:
        return int(known)
    return _inserted(connection, name=HUMANITY, kind="person", description="", created=now)


def _inserted(connection: Connection, **values: Any) -> int:
    """The number of a new player."""
    (number,) = connection.execute(insert(db.players).values(**values)).inserted_primary_key or (0,)
    return int(number)


def as_player(row: Any) -> Player:
    """Of a row of the table of players."""
    return Player(row.id, row.name, row.kind, row.description, row.rated_as or row.id)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
