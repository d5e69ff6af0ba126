"""What an administrator may do, in the database and by no network: a user who can write its file is one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from spiral.api.errors import SpiralError
from spiral.arena import database as db
from spiral.arena import rating_log
from spiral.arena.names import checked_name
from spiral.arena.records import Kind
from spiral.arena.store import NameTaken


@dataclass(frozen=True)
class Listed:
    """A player as an administrator sees it."""

    id: int
    name: str
    kind: Kind
    matches: int
    banned: bool


def list_players(database: db.Database, containing: str = "", limit: int = 100) -> list[Listed]:
    """The players whose name contains a text, last registered first."""
    count = select(func.count()).where(db.seats.c.player == db.players.c.id).scalar_subquery()
    asked = select(db.players, count.label("matches")).where(
        db.players.c.name.icontains(db.storable(containing), autoescape=True)
    )
    with database.read() as connection:
        rows = connection.execute(asked.order_by(db.players.c.id.desc()).limit(limit)).all()
    return [Listed(row.id, row.name, row.kind, row.matches, row.banned) for row in rows]


def rename(database: db.Database, name: str, to: str) -> None:
    """Raises SpiralError for a player that there is not, a name that is none, and one that is taken."""
    new = checked_name(to)
    try:
        with database.write() as connection:
            changed = connection.execute(
                update(db.players).where(db.players.c.name == db.storable(name)).values(name=new)
            )
            _must_be(changed.rowcount, name)
    except IntegrityError as error:
        raise NameTaken(f"the name '{new}' is taken; choose another") from error


def ban(database: db.Database, name: str, banned: bool = True) -> None:
    """A banned player's token opens nothing, it is on no leaderboard, and it waits for no match; its matches stay.
    Raises SpiralError for a player that there is not."""
    with database.write() as connection:
        number = connection.scalar(select(db.players.c.id).where(db.players.c.name == db.storable(name)))
        _must_be(number, name)
        connection.execute(update(db.players).where(db.players.c.id == number).values(banned=banned))
        connection.execute(delete(db.waiting).where(db.waiting.c.player == number))


def void(database: db.Database, match: int) -> bool:
    """Take a match out, in play or ended, and compute the ratings again without it; whether any changed. Raises
    SpiralError."""
    with database.write() as connection:
        return rating_log.take_out(connection, match)


def check(database: db.Database) -> list[str]:
    """Where the ratings are not what the matches give, a sentence each."""
    with database.read() as connection:
        return rating_log.differences(connection)


def _must_be(found: int | None, name: str) -> None:
    if not found:
        raise SpiralError(f"there is no player '{name}'; see spiral arena-admin players")
