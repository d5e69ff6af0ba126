"""The command line: exit code 0 when done, 2 for the user's mistake in one sentence, 1 for a bug with its traceback,
130 or 143 when a signal stopped it.

Heavy imports wait inside the commands, so that `--help` and every complaint about a config are instant.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import click

from spiral.api.errors import SpiralError
from spiral.commands.arena import arena
from spiral.commands.arena_admin import arena_admin
from spiral.commands.arena_export import arena_export
from spiral.commands.bench import bench
from spiral.commands.best_response import best_response
from spiral.commands.check import check
from spiral.commands.collect import collect
from spiral.commands.compare import compare
from spiral.commands.evaluate import evaluate
from spiral.commands.exploitability import exploitability
from spiral.commands.export import export
from spiral.commands.fetch import fetch
from spiral.commands.new import new
from spiral.commands.output import echo, escape_what_cannot_be_encoded
from spiral.commands.patterns import patterns
from spiral.commands.plan import plan
from spiral.commands.play import play
from spiral.commands.plugins import plugins
from spiral.commands.pretrain import pretrain
from spiral.commands.sft import sft
from spiral.commands.simulate import simulate
from spiral.commands.tournament import tournament
from spiral.commands.train import train
from spiral.commands.watch import watch


class _Group(click.Group):
    """Turns SpiralError into a sentence and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpiralError as error:
            for line in str(error).splitlines():
                echo(f"spiral: {line}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            echo("spiral: stopped", err=True)
            ctx.exit(128 + signal.SIGINT)


@click.group(
    cls=_Group,
    commands=[
        train,
        sft,
        pretrain,
        plan,
        simulate,
        evaluate,
        bench,
        exploitability,
        best_response,
        tournament,
        compare,
        patterns,
        play,
        watch,
        arena,
        arena_admin,
        arena_export,
        collect,
        plugins,
        check,
        new,
        fetch,
        export,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="spiral-selfplay")
def main() -> None:
    """Train language models by self-play on text games."""
    escape_what_cannot_be_encoded()
    # A model that is read from a folder would draw a progress bar over what the command prints.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Models come from folders; a hub that cannot be reached would cost minutes of waiting.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
