"""`spiral new`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.commands.output import echo


@click.command(short_help="Write a complete plug-in distribution to start from.")
@click.argument("kind")
@click.argument("name")
@click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path("."), help="Parent folder.")
def new(kind: str, name: str, directory: Path) -> None:
    """Write a complete plug-in distribution that passes its own tests.

    KIND is game, bot, opponents (a sampler), curriculum, reward, advantage (an estimator), model,
    engine, learner, prompt, benchmark or logger.
    """
    from spiral.commands.scaffold import create
    from spiral.testing import CHECKED_KINDS

    path = create(kind, name, directory)
    check = f" && spiral check {name}" if kind in CHECKED_KINDS else ""
    echo(f"wrote {path}; next: pip install -e {path}{check} && pytest {path}")
