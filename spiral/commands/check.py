"""`spiral check`."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from spiral.api.errors import PluginError, SpiralError
from spiral.api.policies import is_external
from spiral.commands.output import echo

if TYPE_CHECKING:
    from spiral.plugins.registry import Plugins, Registration

PLAIN_EVERY_S = 10.0
"""Seconds between lines of progress where there is no terminal."""


@click.command(short_help="Test the promises that plug-ins make.")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Check everything but families of games.")
def check(names: tuple[str, ...], everything: bool) -> None:
    """Test the promises that plug-ins make; exit 1 if one is violated. What only an author can decide is a notice.

    A NAME with arguments is NAME:key=value,key=value. The name of a family, such as those that `spiral plugins` lists
    as NAME/..., checks all its members: many minutes.
    """
    from spiral.config.loading import parse_plugin
    from spiral.plugins.registry import Plugins
    from spiral.testing import CHECKED_KINDS
    from spiral.testing import check as find_violations

    found = Plugins.installed()
    asked = [parse_plugin(name) for name in names]
    by_name = {plugin.name: _called(plugin.name, found, CHECKED_KINDS) for plugin in asked}
    rows = [(r, plugin.args) for plugin in asked for r in by_name[plugin.name]]
    if everything:
        rows = [(r, {}) for r in found.registrations() if r.kind in CHECKED_KINDS and not r.members]
    missing = [name for name, found_rows in by_name.items() if not found_rows]
    if missing or not rows:
        known = ", ".join(sorted({r.name for r in found.registrations() if r.kind in CHECKED_KINDS}))
        what = f"nothing to check is called {', '.join(missing)}" if missing else "nothing was named"
        raise SpiralError(f"{what}; give --all or some of: {known}{found.failures()}")
    # A distribution that is broken has no name that could be asked for: everything is what it belongs to.
    failed = everything and bool(found.failed)
    for sentence in found.not_loaded():
        echo(sentence, err=not everything)
    for number, (row, args) in enumerate(rows):
        with _progress(f"checking {number + 1} of {len(rows)}: {row.kind} {row.name}") as progress:
            violations, notices = _noticed(partial(find_violations, found, row.kind, row.name, args, progress))
        failed = failed or bool(violations)
        _print(row, args, violations, notices)
    sys.exit(1 if failed else 0)


def _print(row: Registration, args: dict[str, Any], violations: Sequence[str], notices: Sequence[str]) -> None:
    from spiral.plugins.registry import label

    external = is_external(row.factory)
    verdict = "VIOLATED" if violations else "not tried, it asks a person or another process" if external else "ok"
    echo(f"{row.kind} {label(row.name, args)} ({row.distribution} {row.version}): {verdict}")
    for violation in violations:
        echo(f"  - {violation}")
    for notice in notices:
        echo(f"  notice: {notice}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is checked, and of a bot on which game: a line that moves, or now and then one that stays."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if console.is_terminal:
        # Around one check alone: while it stands, rich sends to stderr what is printed to stdout.
        with console.status(Text(what)) as status:
            yield lambda game: status.update(Text(f"{what} on {game}"))
        return
    last = time.monotonic()

    def show(game: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            echo(f"{what} on {game}", err=True)

    yield show


def _noticed(check: Callable[[], list[str]]) -> tuple[list[str], list[str]]:
    """What a check found, and the notices it gave; other warnings pass."""
    from spiral.testing import Notice

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        try:
            violations = check()
        except PluginError as clash:  # of two distributions' names: the others are checked all the same
            violations = [str(clash)]
    for warning in caught:
        if not issubclass(warning.category, Notice):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return violations, [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]


def _called(name: str, plugins: Plugins, kinds: Sequence[str]) -> list[Registration]:
    """What has this name. A family that does not list such a member says itself why, by raising SpiralError."""
    rows = [r for r in plugins.named(name) if r.kind in kinds]
    family, _, member = name.partition("/")
    for r in plugins.registrations() if member and not rows else ():
        if r.members and r.name == family and r.kind in kinds:
            plugins.make(r.kind, name)
            rows.append(r.member(member))
    return rows
