"""`spiral pretrain`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.commands.output import echo


@click.command(short_help="Pretraining on text: the next token, bits per byte.")
@click.argument("texts", nargs=-1, metavar="TEXT... [key=value ...]")
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    help="Passes over the text, in place of steps=N.  [default: 1]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="As many steps as take about so long here and now, in place of steps=N.",
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.  [default: runs/pretrain-MODEL-TIME]"
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --run-dir.")
def pretrain(
    texts: tuple[str, ...], epochs: float | None, minutes: float | None, run_dir: Path | None, resume: bool
) -> None:
    """Train a model on text: files, folders of files, or folders that datasets saved.

    Every so often it tells how many bits the model needs for a byte of text that it is not trained on, beside gzip and
    xz, and what it writes. The run is one like any other; self-play begins from its model. Overrides are those of
    spiral train.
    """
    from spiral.training import launch, pretraining

    # A file may have a = in its name: what is there is text.
    overrides = [word for word in texts if "=" in word and not Path(word).exists()]
    paths = [word for word in texts if word not in overrides]
    run = pretraining.launch(paths, overrides, epochs, minutes, run_dir, resume)
    if launch.rank() == 0:
        echo(f"open {run.path / 'report.html'}")
