"""`spiral eval`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spiral.commands.options import AS_JSON, GAME
from spiral.commands.output import echo


@click.command("eval", short_help="Play matches against bots, with 95% intervals.")
@click.argument("run", type=click.Path(path_type=Path))
@GAME
@click.option(
    "--opponent",
    "opponents",
    multiple=True,
    metavar="BOT",
    help="A bot, NAME or NAME:key=value; may be repeated.  [default: the run's]",
)
@click.option(
    "--games", "num_games", type=click.IntRange(min=1), default=500, show_default=True, help="Games as each player."
)
@AS_JSON
def evaluate(run: Path, game: str | None, opponents: tuple[str, ...], num_games: int, as_json: bool) -> None:
    """Play matches against bots: results as each player, with 95% intervals."""
    from spiral.training.session import Run

    rows = Run(run).evaluate(*opponents, game=game, matches=num_games)
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        # One player alone wins and loses against no opponent: its return is the result.
        against = "" if row["opponent"] is None else f" vs {row['opponent']} as player {row['player']}"
        wins = (
            f"win {row['win']:.3f} [{row['win_low']:.3f}, {row['win_high']:.3f}]  draw {row['draw']:.3f}  "
            f"loss {row['loss']:.3f}  "
        )
        echo(
            f"{row['game']}{against}: {wins if against else ''}"
            f"return {row['mean_return']:+.3f} [{row['return_low']:+.3f}, {row['return_high']:+.3f}]  "
            f"illegal {row['illegal']:.3f}  cut {row['cut']:.3f}  ({row['games']} games)"
        )
