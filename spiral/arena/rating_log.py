"""The ratings computed again from the matches: what they have to be, and what they are after a match is taken out."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, update

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.arena import database as db
from spiral.arena import match_log
from spiral.arena.records import RatingChange

Ratings = dict[tuple[int, str], tuple[Rating, int]]
"""(player, game) -> rating, and of how many matches."""
NEW = Rating(), 0


Changes = dict[tuple[int, int, str], RatingChange]
"""(match, seat, game) -> what that match did to that rating."""


def computed(connection: Connection) -> tuple[Ratings, Changes]:
    """All ratings and their changes, by the finished matches in the order of their ends."""
    who = func.coalesce(db.players.c.rated_as, db.players.c.id)
    joined = db.matches.join(db.seats, db.seats.c.match == db.matches.c.id).join(
        db.players, db.players.c.id == db.seats.c.player
    )
    asked = (
        select(db.matches.c.id, db.matches.c.game, db.matches.c.returns, who.label("rated"))
        .select_from(joined)
        .where(db.matches.c.status == "finished")
        .order_by(db.matches.c.ended_as, db.seats.c.seat)
    )
    matches: dict[int, tuple[str, list[float], list[int]]] = {}
    for row in connection.execute(asked):
        matches.setdefault(row.id, (row.game, row.returns, []))[2].append(row.rated)
    ratings: Ratings = {}
    changes: Changes = {}
    for match, (game, returns, players) in matches.items():
        done = match_log.changes_by(players, game, returns, lambda player, name: ratings.get((player, name), NEW)[0])
        for one in done:
            key = one.player, one.game
            ratings[key] = one.after, ratings.get(key, NEW)[1] + 1
            changes[match, one.seat, one.game] = one
    return ratings, changes


def differences(connection: Connection) -> list[str]:
    """Where what is kept is not what the matches give, a sentence each: none, unless a match was rated twice, not at
    all or out of order."""
    ratings, changes = computed(connection)
    found = []
    kept = {
        (row.player, row.game): (Rating(row.mu, row.sigma), row.matches)
        for row in connection.execute(select(db.ratings))
    }
    for key in sorted({*ratings, *kept}):
        if kept.get(key) != ratings.get(key):
            found.append(f"player {key[0]} in '{key[1]}': kept {kept.get(key)}, by the matches {ratings.get(key)}")
    rows = connection.execute(select(db.rating_changes))
    there = {(row.match, row.seat, row.game): match_log.change_of(row) for row in rows}
    wrong = sorted(key for key in {*there, *changes} if there.get(key) != changes.get(key))
    found += [f"match {match}, seat {seat}, '{game}': its change is not that of the log" for match, seat, game in wrong]
    return found


def take_out(connection: Connection, match: int) -> bool:
    """Void a match of any status; the ratings are those that they would be without it. Whether any changed. Raises
    SpiralError for a match that there is not, or that was voided already."""
    row = connection.execute(select(db.matches).where(db.matches.c.id == min(match, db.MAX_NUMBER))).one_or_none()
    if row is None:
        raise SpiralError(f"there is no match {match}")
    if row.status == "voided":
        raise SpiralError(f"match {match} was voided already")
    if match_log.void_match(connection, match, "administrator"):
        return False
    values = {"status": "voided", "ending": "administrator", "rated": False}
    connection.execute(update(db.matches).where(db.matches.c.id == match).values(**values))
    if row.rated:
        _write(connection)
    return bool(row.rated)


def _write(connection: Connection) -> None:
    ratings, changes = computed(connection)
    connection.execute(delete(db.rating_changes))
    connection.execute(delete(db.ratings))
    if changes:
        rows = [match_log.change_row(match, one) for (match, _, _), one in changes.items()]
        connection.execute(db.rating_changes.insert(), rows)
        connection.execute(db.ratings.insert(), [
            {"player": player, "game": game, "mu": rating.mu, "sigma": rating.sigma, "matches": matches}
            for (player, game), (rating, matches) in ratings.items()
        ])  # fmt: skip
