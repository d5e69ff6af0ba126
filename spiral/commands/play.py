"""`spiral play`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from spiral.api.errors import SpiralError
from spiral.arena.extra import arena_extra
from spiral.commands.options import GAME, POLICY
from spiral.commands.output import echo, shown_progress

if TYPE_CHECKING:
    from spiral.evaluation.loaded_policy import LoadedPolicy


@click.command(short_help="Play against a policy, here.")
@POLICY
@GAME
@click.option("--player", default=0, show_default=True, help="Which player you are.")
@click.option("--seed", type=int, help="Play the same deal again.")
@click.option("--web", is_flag=True, help="In the browser, at the address that is printed; Ctrl-C ends it.")
@click.option("--port", type=click.IntRange(0, 65535), help="Of the page, with --web.  [default: a free one]")
def play(policy: str, game: str | None, player: int, seed: int | None, web: bool, port: int | None) -> None:
    """Play against a policy, here.

    A POLICY is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH).
    """
    from spiral.evaluation.against_person import play_against
    from spiral.training.session import Policy

    if port is not None and not web:
        raise SpiralError("--port is for the page of --web; add --web, or leave it out")
    with shown_progress() as progress:
        loaded = Policy.named(policy, game, progress).loaded
    seed = int(time.time()) if seed is None else seed
    if web:
        _in_browser(loaded, game, player, seed, port or 0)
    else:
        play_against(loaded, game, player, seed, echo, _ask)


def _in_browser(loaded: LoadedPolicy, game: str | None, player: int, seed: int, port: int) -> None:
    with arena_extra("spiral play --web"):
        from spiral.arena.one_match import one_match
        from spiral.arena.server import application
        from spiral.arena.serving import address, listening, page_server

    with one_match(loaded, game, player, seed) as lobby:
        bound = listening("127.0.0.1", port, "give another --port")
        echo(f"open http://{address('127.0.0.1', bound)}/play   (seed {seed})")
        page_server(application(lobby)).run(sockets=[bound])


def _ask() -> str:
    try:
        return str(click.prompt("you", prompt_suffix="> "))
    except click.Abort:
        raise EOFError from None
