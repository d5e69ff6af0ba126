"""`spiral export`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.api.progress import Phase
from spiral.commands.output import echo, shown_progress


@click.command(short_help="Write a run's model for transformers and other tools.")
@click.argument("run", metavar="RUN[@STEP]")
@click.argument("out", type=click.Path(path_type=Path))
def export(run: str, out: Path) -> None:
    """Write a run's model as a folder that transformers loads without spiral, with a model card.

    The weights are those that the run is evaluated by, of its newest checkpoint or of that of STEP. A byte model is
    written as a Llama, its tokenizer as one of bytes; a patched model as itself, for which transformers has no
    class.
    """
    from spiral.training.export import export as write

    with shown_progress() as progress:
        progress(Phase(f"writing {out}"))
        step = write(run, out)
    echo(f"wrote the model of step {step} to {out}; {out / 'README.md'} says how it is asked")
