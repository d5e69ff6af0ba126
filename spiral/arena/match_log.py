"""What is written of a match, each a part of a transaction: its start, its moves, and its end with the ratings.

Each may be done again with the same arguments where it is not known whether it was done, and changes nothing then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.arena import database as db
from spiral.arena.records import OVERALL, Ending, Move, RatingChange
from spiral.arena.reply_tokens import Tokens, add_tokens
from spiral.theory.ratings import rate


class MatchEnded(SpiralError):
    """Raised for what comes to a match that an administrator has voided meanwhile."""


def start_match(connection: Connection, game: str, seed: int, players: Sequence[int]) -> int:
    """The number of a new match with these players, one a seat; they wait no longer."""
    values = {"game": game, "seed": seed, "status": "playing"}
    if connection.info.get("again") and (known := connection.scalar(select(db.matches.c.id).filter_by(**values))):
        return int(known)  # a match that no player was told of would run out its clock when the server is started again
    values["started"] = time.time()
    new = connection.execute(insert(db.matches).values(**values))
    (match,) = new.inserted_primary_key or (0,)
    rows = [{"match": match, "seat": seat, "player": player} for seat, player in enumerate(players)]
    connection.execute(insert(db.seats), rows)
    # In this transaction: a player whose match has begun is not queued again after a kill.
    connection.execute(delete(db.waiting).where(db.waiting.c.player.in_(players)))
    return int(match)


def add_move(connection: Connection, match: int, number: int, move: Move, tokens: Tokens | None = None) -> None:
    """Keep the `number`-th turn of a match, counted from 0, with the tokens of its reply. Raises MatchEnded."""
    if connection.scalar(select(db.matches.c.status).where(db.matches.c.id == match)) != "playing":
        raise MatchEnded(f"match {match} has ended")
    where = (db.moves.c.match == match) & (db.moves.c.number == number)
    if connection.scalar(select(db.moves.c.number).where(where)) is None:
        values = {"seat": move.seat, "move": move.move, "said": move.said, "legal": move.legal}
        connection.execute(insert(db.moves).values(match=match, number=number, **values, made=time.time()))
        if tokens is not None:
            add_tokens(connection, match, number, tokens)


def finish_match(
    connection: Connection, match: int, returns: Sequence[float], ending: Ending, offender: int | None = None
) -> list[RatingChange]:
    """End a match and update the ratings of its players, for its game and over all games. A match that has ended
    already stays as it is, and the changes that it made then are given again: its end may come on several ways. Raises
    MatchEnded for one that was voided."""
    row = connection.execute(select(db.matches).where(db.matches.c.id == match)).one()
    if row.status == "voided":
        raise MatchEnded(f"match {match} was voided")
    if row.status == "finished":
        return _changes(connection, match)
    changes = rated(connection, match, row.game, returns)
    _end(connection, match, "finished", {
        "ending": ending, "offender": offender, "returns": list(returns), "rated": bool(changes),
    })  # fmt: skip
    return changes


def void_match(connection: Connection, match: int, cause: str) -> bool:
    """End a match that changes no rating; False for one that has ended already."""
    status = connection.scalar(select(db.matches.c.status).where(db.matches.c.id == match))
    if status != "playing":
        return False
    _end(connection, match, "voided", {"ending": cause[:16], "rated": False})
    return True


def queued(connection: Connection, player: int, games: Sequence[str], since: float) -> None:
    """Keep that a player waits, and since when: it is queued again by its next connection after a kill. Raises
    SpiralError for one that was banned."""
    if connection.scalar(select(db.players.c.banned).where(db.players.c.id == player)):
        raise SpiralError("an administrator has shut you out")
    connection.execute(delete(db.waiting).where(db.waiting.c.player == player))
    connection.execute(insert(db.waiting).values(player=player, games=list(games), since=since))


def unqueued(connection: Connection, player: int) -> None:
    """It waits no longer."""
    connection.execute(delete(db.waiting).where(db.waiting.c.player == player))


def _end(connection: Connection, match: int, status: str, values: dict[str, Any]) -> None:
    ended_as = (connection.scalar(select(func.max(db.matches.c.ended_as))) or 0) + 1
    row = {"status": status, "ended": time.time(), "ended_as": ended_as, **values}
    connection.execute(update(db.matches).where(db.matches.c.id == match).values(**row))


def rated(connection: Connection, match: int, game: str, returns: Sequence[float]) -> list[RatingChange]:
    """Update the ratings as they are now, which other matches may have changed since this one began."""
    rated = db.players.join(db.seats, db.seats.c.player == db.players.c.id)
    asked = select(func.coalesce(db.players.c.rated_as, db.players.c.id)).select_from(rated)
    players = list(connection.scalars(asked.where(db.seats.c.match == match).order_by(db.seats.c.seat)))
    before = {(player, name): rating(connection, player, name) for name in (game, OVERALL) for player in players}
    changes = changes_by(players, game, returns, lambda player, name: before[player, name][0])
    for one in changes:
        played = before[one.player, one.game][1]
        values = {"mu": one.after.mu, "sigma": one.after.sigma, "matches": played + 1}
        if played:
            where = (db.ratings.c.player == one.player) & (db.ratings.c.game == one.game)
            connection.execute(update(db.ratings).where(where).values(**values))
        else:
            connection.execute(insert(db.ratings).values(player=one.player, game=one.game, **values))
        connection.execute(insert(db.rating_changes).values(**change_row(match, one)))
    return changes


def changes_by(
    players: Sequence[int], game: str, returns: Sequence[float], before: Callable[[int, str], Rating]
) -> list[RatingChange]:
    """What a match does to the ratings of its players, one a seat, for its game and over all games; `before`: of a
    player in a game."""
    if len(players) < 2 or len(set(players)) < len(players):
        return []  # alone, or against itself, as two guests are: nothing is learnt of its skill
    changes = []
    for name in (game, OVERALL):
        old = [before(player, name) for player in players]
        for seat, (player, new) in enumerate(zip(players, rate(old, returns), strict=True)):
            changes.append(RatingChange(seat, player, name, old[seat], new))
    return changes


def change_row(match: int, change: RatingChange) -> dict[str, Any]:
    """As the table keeps it; `change_of` reads it back."""
    return {
        "match": match, "seat": change.seat, "game": change.game, "player": change.player,
        "mu_before": change.before.mu, "sigma_before": change.before.sigma,
        "mu": change.after.mu, "sigma": change.after.sigma,
    }  # fmt: skip


def change_of(row: Any) -> RatingChange:
    """Of a row of the table of changes."""
    before, after = Rating(row.mu_before, row.sigma_before), Rating(row.mu, row.sigma)
    return RatingChange(row.seat, row.player, row.game, before, after)


def rating(connection: Connection, player: int, game: str) -> tuple[Rating, int]:
    """A rating, and of how many matches."""
    where = (db.ratings.c.player == player) & (db.ratings.c.game == game)
    row = connection.execute(select(db.ratings).where(where)).one_or_none()
    return (Rating(), 0) if row is None else (Rating(row.mu, row.sigma), row.matches)


def _changes(connection: Connection, match: int) -> list[RatingChange]:
    c = db.rating_changes.c
    rows = connection.execute(select(db.rating_changes).where(c.match == match).order_by(c.game.desc(), c.seat))
    return list(map(change_of, rows))
