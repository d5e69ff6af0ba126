"""`spiral watch`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.arena.extra import arena_extra
from spiral.commands.output import echo


@click.command(short_help="A page of a run, or of a folder of runs, while they train.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535))
def watch(folder: Path, host: str, port: int) -> None:
    """Serve a page of a run, or of a folder of runs, while they train: curves, last games, health, time left.

    It refreshes by itself and changes nothing in the folder. Ctrl-C ends it.
    """
    with arena_extra("spiral watch"):
        from spiral.arena.run_pages import application, find_runs
        from spiral.arena.serving import address, listening, page_server

    runs, app = find_runs(folder), application(folder)
    bound = listening(host, port, "give another --port")
    echo(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}; open http://{address(host, bound)}/")
    page_server(app).run(sockets=[bound])
