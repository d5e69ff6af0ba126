"""`spiral train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from spiral.api.errors import SpiralError
from spiral.commands.output import echo


@click.command(short_help="Train; without a config, Kuhn poker in a few minutes.")
@click.argument("words", nargs=-1, metavar="[CONFIG.yaml] [key=value ...]")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.  [default: runs/GAME-TIME]")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --run-dir.")
@click.option("--show", is_flag=True, help="Print the config with where each value comes from, and train nothing.")
def train(words: tuple[str, ...], run_dir: Path | None, resume: bool, show: bool) -> None:
    """Train; without a config, a tiny model learns Kuhn poker in a few minutes.

    model=FOLDER trains a pretrained model, with the defaults that follow it.
    """
    from spiral.training import launch

    path, overrides = split_words(words)
    if show:
        echo(launch.shown_config(path, overrides, run_dir, resume).rstrip())
        return
    run = launch.launch(path, overrides, run_dir, resume)
    if launch.rank() == 0:
        echo(f"open {run.path / 'report.html'}")


def split_words(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The config file and the overrides among the words of the command."""
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise SpiralError(f"one config file at most, not {len(files)}: {', '.join(files)}; overrides are key=value")
    return (Path(files[0]) if files else None), [word for word in words if "=" in word]
