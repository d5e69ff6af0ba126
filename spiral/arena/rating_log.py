"""The ratings computed again from the matches: what they have to be, and what they are after a match is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.arena import database as db
from spiral.arena import match_log
from spiral.arena.records import OVERALL
from spiral.theory.ratings import rate

Ratings = dict[tuple[int, str], tuple[Rating, int]]
"""(player, game) -> rating, and of how many matches."""


@dataclass(frozen=True)
class Change:
    """What one match does to one rating, as `rating_changes` keeps it."""

    match: int
    seat: int
    game: str
    player: int
    before: Rating
    after: Rating


def computed(connection: Connection) -> tuple[Ratings, list[Change]]:
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
    changes: list[Change] = []
    for match, (game, returns, players) in matches.items():
        if len(players) < 2 or len(set(players)) < len(players):
            continue
        for name in (game, OVERALL):
            old = [ratings.get((player, name), (Rating(), 0)) for player in players]
            new = rate([rating for rating, _ in old], returns)
            for seat, player in enumerate(players):
                ratings[player, name] = (new[seat], old[seat][1] + 1)
                changes.append(Change(match, seat, name, player, old[seat][0], new[seat]))
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
    rows = {
        (one.match, one.seat, one.game): one
        for row in connection.execute(select(db.rating_changes))
        for one in [_change(row)]
    }
    due = {(one.match, one.seat, one.game): one for one in changes}
    wrong = sorted(key for key in {*rows, *due} if rows.get(key) != due.get(key))
    found += [f"match {match}, seat {seat}, '{game}': its change is not that of the log" for match, seat, game in wrong]
    return found


def _change(row: Any) -> Change:
    before, after = Rating(row.mu_before, row.sigma_before), Rating(row.mu, row.sigma)
    return Change(row.match, row.seat, row.game, row.player, before, after)


def take_out(connection: Connection, match: int) -> bool:
    """Void a match of any status; the ratings are those that they would be without it. Whether any changed. Raises
    SpiralError for a match that there is not, or that was voided already."""
    row = connection.execute(select(db.matches).where(db.matches.c.id == match)).one_or_none()
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
        connection.execute(db.rating_changes.insert(), [
            {
                "match": one.match, "seat": one.seat, "game": one.game, "player": one.player,
                "mu_before": one.before.mu, "sigma_before": one.before.sigma,
                "mu": one.after.mu, "sigma": one.after.sigma,
            }
            for one in changes
        ])  # fmt: skip
        connection.execute(db.ratings.insert(), [
            {"player": player, "game": game, "mu": rating.mu, "sigma": rating.sigma, "matches": matches}
            for (player, game), (rating, matches) in ratings.items()
        ])  # fmt: skip
