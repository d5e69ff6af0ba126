"""Text for the terminal: what it cannot show, or would obey, is escaped, so that no text ends or forges an output."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

from spiral.api.progress import Progress
from spiral.api.text import printable


def escape_what_cannot_be_encoded() -> None:
    """For the rest of this process, on its three streams: `\\xfc` for an umlaut where there is ASCII only."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # Tests and notebooks have streams of other kinds; one that was read from cannot be changed any more.
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def echo(text: str = "", err: bool = False) -> None:
    """Print a text at once. Not `click.echo`, which writes UTF-8 to a terminal that asks for ASCII."""
    print(printable(text), file=sys.stderr if err else sys.stdout, flush=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """What takes long is told on stderr, with a bar on a terminal; what is quick is not told."""
    from rich.console import Console

    from spiral.reports.terminal import Terminal

    terminal = Terminal(Console(stderr=True))
    try:
        yield terminal.progress
    finally:
        terminal.close()
