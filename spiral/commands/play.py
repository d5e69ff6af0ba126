"""`spiral play`."""

from __future__ import annotations

import time

import click

from spiral.commands.options import GAME, POLICY
from spiral.commands.output import echo, shown_progress


@click.command(short_help="Play against a policy, here.")
@POLICY
@GAME
@click.option("--player", default=0, show_default=True, help="Which player you are.")
@click.option("--seed", type=int, help="Play the same deal again.")
def play(policy: str, game: str | None, player: int, seed: int | None) -> None:
    """Play against a policy, here.

    A POLICY is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH).
    """
    from spiral.evaluation.against_person import play_against
    from spiral.training.session import Policy

    with shown_progress() as progress:
        loaded = Policy.named(policy, game, progress).loaded
    play_against(loaded, game, player, int(time.time()) if seed is None else seed, echo, _ask)


def _ask() -> str:
    try:
        return str(click.prompt("you", prompt_suffix="> "))
    except click.Abort:
        raise EOFError from None
