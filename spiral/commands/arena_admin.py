"""`spiral arena-admin`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from spiral.api.errors import SpiralError
from spiral.api.text import printable
from spiral.arena.extra import arena_extra
from spiral.commands.output import echo

if TYPE_CHECKING:
    from spiral.arena.database import Database

T = TypeVar("T")


@click.group("arena-admin", short_help="Players, matches and backups of an arena.")
@click.option("--db", default="sqlite:///arena.db", show_default=True, metavar="URL", help="The --db of the arena.")
@click.pass_context
def arena_admin(context: click.Context, db: str) -> None:
    """Administer an arena in its database, while it runs or not.

    There is no other way: the arena has no page and no address for it.
    """
    with arena_extra("the arena"):
        import spiral.arena.database  # noqa: F401
    context.obj = db


@arena_admin.command(short_help="List players.")
@click.argument("text", default="")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1))
@click.pass_obj
def players(url: str, text: str, limit: int) -> None:
    """The players whose name contains TEXT, last registered first."""
    from spiral.arena.administration import list_players

    for one in _opened(url, lambda database: list_players(database, text, limit)):
        banned = "  banned" if one.banned else ""
        echo(f"{one.id:>6}  {printable(one.name):<32}  {one.kind:<6}  {one.matches} matches{banned}")


@arena_admin.command(short_help="Give a player another name.")
@click.argument("name")
@click.argument("new")
@click.pass_obj
def rename(url: str, name: str, new: str) -> None:
    """Call the player NAME by the name NEW."""
    from spiral.arena import administration

    _opened(url, lambda database: administration.rename(database, name, new))
    echo(f"{printable(name)} is {printable(new)} now")


@arena_admin.command(short_help="Shut a player out, or let it in again.")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let it in again.")
@click.pass_obj
def ban(url: str, name: str, undo: bool) -> None:
    """Shut the player NAME out: its token opens nothing, and no leaderboard has it.

    A match that it plays goes on.
    """
    from spiral.arena import administration

    _opened(url, lambda database: administration.ban(database, name, not undo))
    echo(f"{printable(name)} is {'let in again' if undo else 'shut out'}")


@arena_admin.command(short_help="Take a match out of the ratings.")
@click.argument("match", type=int)
@click.pass_obj
def void(url: str, match: int) -> None:
    """Void a MATCH by its number. The ratings become what they would be without it.

    One in play ends with its next move.
    """
    from spiral.arena import administration

    changed = _opened(url, lambda database: administration.void(database, match))
    echo(f"match {match} is void; {'the ratings were computed again' if changed else 'no rating had counted it'}")


@arena_admin.command(short_help="Compute the ratings again, and compare.")
@click.pass_obj
def check(url: str) -> None:
    """Compare the ratings with what the matches give."""
    from spiral.arena import administration

    found = _opened(url, administration.check)
    if found:
        raise SpiralError(f"{len(found)} ratings are not what the matches give: {'; '.join(found[:5])}")
    echo("the ratings are what the matches give")


@arena_admin.command(short_help="Copy the database while the arena runs.")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(url: str, file: Path) -> None:
    """Copy the database into FILE, and check the copy."""
    from spiral.arena.backup import back_up

    echo(f"{file}: {back_up(url, file)}")


@arena_admin.command(short_help="Put a backup in the place of the database.")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def restore(url: str, file: Path) -> None:
    """Check FILE and put it in the place of the database; the arena must not run."""
    from spiral.arena import backup as copies

    echo(f"restored: {copies.restore(url, file)}")


def _opened(url: str, work: Callable[[Database], T]) -> T:
    from spiral.arena.database import DOWN, Database

    database = Database(url, exists=True)
    try:
        return work(database)
    except DOWN as error:
        reason = str(error).splitlines()[0]
        raise SpiralError(f"the arena's database does not answer ({reason}); try again in a moment") from error
    finally:
        database.close()
