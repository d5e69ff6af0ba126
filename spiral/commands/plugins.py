"""`spiral plugins`."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from spiral.api.errors import SpiralError
from spiral.commands.options import AS_JSON
from spiral.commands.output import echo

if TYPE_CHECKING:
    from spiral.plugins.registry import Registration


@click.command(short_help="List what is installed, or the arguments of one.")
@click.argument("name", required=False)
@AS_JSON
def plugins(name: str | None, as_json: bool) -> None:
    """List everything installed, and what failed to load; or the members of a family, or one plug-in by NAME."""
    from spiral.plugins.registry import Plugins

    found = Plugins.installed()
    listed = found.registrations() if name is None else found.named(name)
    if not listed:
        families = ", ".join(r.name for r in found.registrations() if r.members) or "none"
        raise SpiralError(
            f"nothing installed is called {name}; families are: {families}; or list everything without a name"
            f"{found.failures()}"
        )
    if as_json:
        rows = [
            {"kind": r.kind, "name": r.name, "distribution": r.distribution, "version": r.version, "doc": r.doc}
            for r in listed
        ]
        echo(json.dumps({"plugins": rows, "failed": [asdict(f) for f in found.failed]}, indent=2))
        return
    _print_plugins(listed, asked=name is not None)
    for sentence in (*found.clashes(), *found.not_loaded()):
        echo(f"failed: {sentence}", err=True)


def _print_plugins(listed: Sequence[Registration], asked: bool) -> None:
    """By kind and distribution, a line each where it is no terminal; all that is known of one that was asked for."""
    if asked and len(listed) == 1:
        return _print_plugin(listed[0])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    names = {id(r): f"{r.name}/... ({len(list(r.members()))})" if r.members else r.name for r in listed}
    column = 4 + max(map(len, names.values()))
    groups: dict[str, list[Registration]] = {}
    for r in listed:
        groups.setdefault(f"{r.kind}: {r.distribution} {r.version}", []).append(r)
    for heading, rows in groups.items():
        echo(heading)
        for r in rows:
            doc = "" if asked and "/" in r.name else r.doc  # members of a family have none of their own
            lines = textwrap.wrap(doc, max(20, width - column)) or [""]
            echo(f"  {names[id(r)]:<{column - 2}}{lines[0]}".rstrip())
            for line in lines[1:]:
                echo(" " * column + line)


def _print_plugin(registration: Registration) -> None:
    """What its factory says of itself, and its arguments."""
    factory = registration.factory
    parameters = inspect.signature(factory).parameters.values()
    echo(f"{registration.kind} {registration.name} ({registration.distribution} {registration.version})\n")
    echo(inspect.getdoc(getattr(factory, "func", factory)) or "")  # of a family's member: what the family says
    echo(f"\narguments: {', '.join(str(p.replace(annotation=p.empty)) for p in parameters) or 'none'}")
