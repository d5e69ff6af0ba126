"""`spiral new`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.commands.output import echo


@click.command(short_help="Write a complete plug-in distribution to start from.")
@click.argument("kind", type=click.Choice(["game", "estimator", "opponent"]))
@click.argument("name")
@click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path("."), help="Parent folder.")
def new(kind: str, name: str, directory: Path) -> None:
    """Write a complete plug-in distribution that passes its own tests."""
    from spiral.commands.scaffold import create

    path = create(kind, name, directory)  # type: ignore[arg-type]
    echo(f"wrote {path}; next: pip install -e {path} && spiral check {name} && pytest {path}")
