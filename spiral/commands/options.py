"""Arguments and options that several commands take."""

from __future__ import annotations

import click

POLICY = click.argument("policy", metavar="POLICY")
"""Read by `spiral.training.session.Policy.named`."""
GAME = click.option(
    "--game", metavar="G", help="One of the run's games, if it has several; any game for a model or bot."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
