"""`spiral tournament`."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import click

from spiral.api.errors import SpiralError
from spiral.commands.output import echo


@click.command(short_help="Cross-play of runs, bots and models, with ratings.")
@click.argument("players", nargs=-1, metavar="PLAYER PLAYER...")
@click.option("--game", metavar="NAME", help="Any game, NAME or NAME:key=value.  [default: the first run's only one]")
@click.option(
    "--games",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Games of every pair, in all line-ups.",
)
@click.option(
    "--schedule", type=click.Choice(["round-robin", "rating-matched"]), default="round-robin", show_default=True
)
@click.option(
    "--budget", type=click.IntRange(min=1), help="Games in all, if rating-matched.  [default: --games for each player]"
)
@click.option("--anchor", metavar="PLAYER", help="Whose rating is 0.  [default: the mean is]")
@click.option("--out", type=click.Path(path_type=Path), help="Where it is kept.  [default: tournaments/GAME-TIME]")
@click.option("--seed", default=0, show_default=True, help="The same seed, the same games.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tournament(players: tuple[str, ...], out: Path | None, as_json: bool, **asked: Any) -> None:
    """Play runs, bots and models against each other: cross-play table, ratings, Nash average, cycles.

    A PLAYER is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH). A file of
    games in place of the players, such as spiral arena-export writes, is rated as it is, and no game is played.
    """
    from rich.console import Console

    from spiral.evaluation.tournament.record import run_tournament
    from spiral.evaluation.tournament.recorded import recorded_tournament
    from spiral.evaluation.tournament.tournament import TournamentConfig
    from spiral.reports.tournament import progress

    config = TournamentConfig(asked["schedule"], asked["games"], asked["budget"], None, asked["seed"])
    if len(players) == 1 and players[0].endswith(".jsonl"):
        path = Path(players[0])
        record = recorded_tournament(path, asked["game"], config, asked["anchor"])
        kept = out or Path("tournaments") / f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        _keep(record | {"command": _command(players, asked)}, kept, as_json, len(record["players"]))
        return
    with progress(Console(stderr=True)) as show:
        record, kept = run_tournament(
            players, asked["game"], config, asked["anchor"], _command(players, asked), out, show
        )
    _keep(record, kept, as_json, len(players))
    if record["stopped"]:
        raise SpiralError(f"{record['stopped']}; what was played by then is in {kept}")


def _keep(record: dict[str, Any], kept: Path, as_json: bool, num_players: int) -> None:
    from rich.console import Console

    from spiral.evaluation.tournament.record import keep_record
    from spiral.reports.html.tournament_page import tournament_page
    from spiral.reports.tournament import print_record
    from spiral.runs.files import write_atomic

    # Shown before it is written: a disk that filled up meanwhile must not cost the games.
    if as_json:
        echo(json.dumps(record, indent=1))
    else:
        console = Console()
        print_record(record, console if console.is_terminal else Console(width=max(140, 56 + 20 * num_players)))
    keep_record(record, kept)
    write_atomic(kept / "tournament.html", tournament_page(record))
    if not as_json:
        echo(f"open {kept / 'tournament.html'}")


def _command(players: tuple[str, ...], asked: dict[str, Any]) -> str:
    """The command that plays the same again."""
    options = [f"--{name}={value}" for name, value in asked.items() if value is not None]
    return shlex.join(["spiral", "tournament", *players, *options])
