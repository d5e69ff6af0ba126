"""`spiral check`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from spiral.api.errors import SpiralError
from spiral.api.policies import is_external
from spiral.commands.output import echo

if TYPE_CHECKING:
    from spiral.plugins.registry import Plugins, Registration


@click.command(short_help="Test the promises that plug-ins make.")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Check everything but families of games.")
def check(names: tuple[str, ...], everything: bool) -> None:
    """Test the promises that plug-ins make; exit 1 if one is violated. What only an author can decide is a notice.

    The name of a family, such as those that `spiral plugins` lists as NAME/..., checks all its members: many minutes.
    """
    from spiral.plugins.registry import Plugins
    from spiral.testing import CHECKED_KINDS
    from spiral.testing import check as find_violations

    found = Plugins.installed()
    by_name = {name: _called(name, found, CHECKED_KINDS) for name in names}
    rows = [r for found_rows in by_name.values() for r in found_rows]
    if everything:
        rows = [r for r in found.registrations() if r.kind in CHECKED_KINDS and not r.members]
    missing = [name for name, found_rows in by_name.items() if not found_rows]
    if missing or not rows:
        known = ", ".join(sorted({r.name for r in found.registrations() if r.kind in CHECKED_KINDS}))
        asked = f"nothing to check is called {', '.join(missing)}" if missing else "nothing was named"
        raise SpiralError(f"{asked}; give --all or some of: {known}{found.failures()}")
    failed = False
    for row in rows:
        violations, notices = _noticed(partial(find_violations, found, row.kind, row.name))
        failed = failed or bool(violations)
        external = is_external(row.factory)
        verdict = "VIOLATED" if violations else "not tried, it asks a person or another process" if external else "ok"
        echo(f"{row.kind} {row.name} ({row.distribution} {row.version}): {verdict}")
        for violation in violations:
            echo(f"  - {violation}")
        for notice in notices:
            echo(f"  notice: {notice}")
    sys.exit(1 if failed else 0)


def _noticed(check: Callable[[], list[str]]) -> tuple[list[str], list[str]]:
    """What a check found, and the notices it gave; other warnings pass."""
    from spiral.testing import Notice

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        violations = check()
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
