"""Options that several commands take."""

from __future__ import annotations

import click

GAME = click.option("--game", metavar="G", help="A game of the run; not needed if it has one only.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
