"""`spiral collect`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from spiral.api.errors import Stopped
from spiral.commands.output import echo, shown_progress


@click.command(short_help="Play experts' games and keep them as supervised examples.")
@click.argument("policies", nargs=-1, required=True, metavar="POLICY...")
@click.option(
    "--games",
    multiple=True,
    metavar="G",
    help="A game, NAME or NAME:key=value; may be repeated.  [default: those of the first run]",
)
@click.option(
    "--opponent",
    "opponents",
    multiple=True,
    metavar="POLICY",
    help="Whom they play, whose own moves are not kept; may be repeated.  [default: each other, or one itself]",
)
@click.option("--num", type=click.IntRange(min=1), default=1000, show_default=True, help="Games to keep.")
@click.option(
    "--keep",
    type=click.Choice(["wins", "all"]),
    default="wins",
    show_default=True,
    help="The winner's decisions, or every player's.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed, the same file.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("games.jsonl"), show_default=True, help="The file to write."
)
def collect(policies: tuple[str, ...], opponents: tuple[str, ...], out: Path, **asked: Any) -> None:
    """Play policies against each other, or one against itself, and keep their games as supervised examples.

    A POLICY is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH). The same
    command goes on after a kill.
    """
    from spiral.plugins.registry import Plugins
    from spiral.selfplay.experts import Asked, make_collection

    with shown_progress() as progress:
        collection = make_collection(Asked(policies, opponents, **asked), out, Plugins.installed(), progress)
        try:
            collection.run()
        except KeyboardInterrupt:
            raise Stopped(
                f"stopped; {out} holds {collection.num_kept:,} games, and the same command goes on", signal.SIGINT
            ) from None
    voided = f", {collection.num_voided:,} voided and replaced" if collection.num_voided else ""
    echo(
        f"{out}: {collection.num_kept:,} games kept of {collection.num_played:,} played{voided}; train on them with: "
        f"spiral sft {out}"
    )
