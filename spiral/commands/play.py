"""`spiral play`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from spiral.commands.options import GAME
from spiral.commands.output import echo


@click.command(short_help="Play against a run's policy, here.")
@click.argument("run", type=click.Path(path_type=Path))
@GAME
@click.option("--player", default=0, show_default=True, help="Which player you are.")
@click.option("--seed", type=int, help="Play the same deal again.")
def play(run: Path, game: str | None, player: int, seed: int | None) -> None:
    """Play against a run's policy, here."""
    from spiral.evaluation.against_person import play_against
    from spiral.training.session import Run

    loaded = Run(run).policy().loaded
    play_against(loaded, game, player, int(time.time()) if seed is None else seed, echo, _ask)


def _ask() -> str:
    try:
        return str(click.prompt("you", prompt_suffix="> "))
    except click.Abort:
        raise EOFError from None
