"""`spiral sft`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.commands.output import echo


@click.command(short_help="Supervised training on games that spiral collect kept.")
@click.argument("examples", metavar="GAMES.jsonl")
@click.argument("overrides", nargs=-1, metavar="[key=value ...]")
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    help="Passes over the games, in place of steps=N.  [default: 3]",
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.  [default: runs/sft-GAME-TIME]"
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --run-dir.")
def sft(examples: str, overrides: tuple[str, ...], epochs: float | None, run_dir: Path | None, resume: bool) -> None:
    """Train on the replies of other policies, in the games of a file that `spiral collect` wrote.

    The run is one like any other: spiral eval, exploitability, export and report take it, and another run may play
    against it or begin from it. Overrides are those of spiral train.
    """
    from spiral.training import launch, supervised

    run = supervised.launch(Path(examples), overrides, epochs, run_dir, resume)
    if launch.rank() == 0:
        echo(f"open {run.path / 'report.html'}")
