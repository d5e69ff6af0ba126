"""`spiral arena`."""

from __future__ import annotations

import click

from spiral.api.errors import SpiralError
from spiral.commands.output import echo


@click.command(short_help="People and models play each other online, rated live.")
@click.option(
    "--games",
    "games",
    multiple=True,
    metavar="G",
    help="A game, NAME or NAME:key=value; may be repeated.  [default: all installed ones of two or more players]",
)
@click.option(
    "--house",
    multiple=True,
    metavar="POLICY",
    help="Who plays with those that wait alone; may be repeated.  [default: all installed bots]",
)
@click.option("--db", default="sqlite:///arena.db", show_default=True, metavar="URL", help="SQLite or PostgreSQL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--clock", default=120.0, show_default=True, type=click.FloatRange(min=1), help="Seconds for one move.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1), help="That play the games.")
@click.option(
    "--per-address",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    help="Connections of one address at once.",
)
def arena(
    games: tuple[str, ...],
    house: tuple[str, ...],
    db: str,
    host: str,
    port: int,
    clock: float,
    processes: int,
    per_address: int,
) -> None:
    """People and models play each other online, rated live.

    A POLICY is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH).
    """
    try:
        import uvicorn

        from spiral.arena.limits import Limits
        from spiral.arena.listening import configured
        from spiral.arena.opening import open_arena
        from spiral.arena.server import application
    except ModuleNotFoundError as error:
        raise SpiralError(
            f'the arena needs {error.name}, which is not installed; pip install "spiral-selfplay[arena]"'
        ) from error
    opened = open_arena(games, house, db, clock, processes, lambda text: echo(text, err=True))
    echo(f"{len(opened.lobby.games)} games; house: {', '.join(opened.house) or 'none'}")
    echo(f"open http://{host}:{port}/")
    limits = Limits(connections=per_address)
    try:
        uvicorn.Server(configured(application(opened.lobby, limits), host, port)).run()
    finally:
        opened.close()
