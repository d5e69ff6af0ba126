"""`spiral eval`."""

from __future__ import annotations

import json
from typing import Any

import click

from spiral.commands.options import AS_JSON, GAME, POLICY
from spiral.commands.output import echo, shown_progress


@click.command("eval", short_help="Play matches against other policies, with 95% intervals.")
@POLICY
@GAME
@click.option(
    "--opponent",
    "opponents",
    multiple=True,
    metavar="POLICY",
    help="Another policy; may be repeated.  [default: the bots that the run's config names]",
)
@click.option(
    "--games", "num_games", type=click.IntRange(min=1), default=500, show_default=True, help="Games as each player."
)
@AS_JSON
def evaluate(policy: str, game: str | None, opponents: tuple[str, ...], num_games: int, as_json: bool) -> None:
    """Play matches against other policies: results as each player, with 95% intervals.

    A POLICY is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH).
    """
    from spiral.training.session import Policy

    with shown_progress() as progress:
        rows = Policy.named(policy, game, progress).evaluate(*opponents, game=game, matches=num_games)
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
            f"illegal {row['illegal']:.3f}  "
            + (f"opponent illegal {row['opponent_illegal']:.3f}  " if against else "")
            + f"cut {row['cut']:.3f}  ({row['games']} games{_voided(row)})"
        )


def _voided(row: dict[str, Any]) -> str:
    """What to say of the games that were voided and replaced; nothing of none."""
    causes = ", ".join(f"{times} by {cause}" for cause, times in row["voided"].items())
    return f"; voided and replaced: {causes}" if causes else ""
