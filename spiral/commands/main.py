"""The command line: 0 done, 2 the user's mistake in one sentence, 1 a bug with its traceback.

Heavy imports wait inside the commands, so that `--help` and every complaint about a config are instant.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from spiral.api.errors import SpiralError
from spiral.commands.exploitability import exploit, exploitability
from spiral.commands.tournament import tournament
from spiral.training import launch

GAME = click.option("--game", metavar="G", help="A game of the run; not needed if it has one only.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Group(click.Group):
    """Turns SpiralError into a sentence and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpiralError as error:
            for line in str(error).splitlines():
                click.echo(f"spiral: {line}", err=True)
            ctx.exit(2)


@click.group(
    cls=_Group,
    commands=[exploit, exploitability, tournament],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="spiral-selfplay")
def main() -> None:
    """Train language models by self-play on text games."""
    # A model that is read from a folder would draw a progress bar over what the command prints.
    os.environ.setdefault("TQDM_DISABLE", "1")


@main.command()
@click.argument("words", nargs=-1, metavar="[CONFIG.yaml] [key=value ...]")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.  [default: runs/GAME-TIME]")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --run-dir.")
def train(words: tuple[str, ...], run_dir: Path | None, resume: bool) -> None:
    """Train; without a config, a tiny model learns Kuhn poker in a few minutes."""
    from spiral.config import loading as config
    from spiral.plugins.registry import Plugins
    from spiral.selfplay import setup as assemble

    path, overrides = _split(words)
    plugins = Plugins.installed()
    if resume:
        run, loaded = launch.resumed(run_dir, path, overrides)
        assemble.check(loaded, plugins)
    else:
        loaded, faults = config.read(path, overrides)
        assemble.check(loaded, plugins, faults)
        run = launch.new_run(run_dir, loaded, plugins)
    launch.train(loaded, run, plugins, resume)
    if launch.rank() == 0:
        click.echo(f"open {run.path / 'report.html'}")


@main.command()
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
        )
    if as_json:
        rows = [
            {"kind": r.kind, "name": r.name, "distribution": r.distribution, "version": r.version, "doc": r.doc}
            for r in listed
        ]
        broken = [
            {"distribution": b.distribution, "version": b.version, "value": b.value, "reason": b.reason}
            for b in found.broken
        ]
        click.echo(json.dumps({"plugins": rows, "broken": broken}, indent=2))
        return
    _print_plugins(listed, asked=name is not None)
    for b in found.broken:
        click.echo(f"broken: {b.distribution} {b.version} ({b.value}): {b.reason}", err=True)


@main.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Check everything but families of games.")
def check(names: tuple[str, ...], everything: bool) -> None:
    """Test the promises that plug-ins make; exit 1 if one is broken.

    The name of a family, such as those that `spiral plugins` lists as NAME/..., checks all its members: many minutes.
    """
    from spiral.plugins.registry import Plugins
    from spiral.testing import CHECKED_KINDS
    from spiral.testing import check as broken_promises

    found = Plugins.installed()
    by_name = {name: _called(name, found, CHECKED_KINDS) for name in names}
    rows = [r for found_rows in by_name.values() for r in found_rows]
    if everything:
        rows = [r for r in found.registrations() if r.kind in CHECKED_KINDS and not r.members]
    missing = [name for name, found_rows in by_name.items() if not found_rows]
    if missing or not rows:
        known = ", ".join(sorted({r.name for r in found.registrations() if r.kind in CHECKED_KINDS}))
        asked = f"nothing to check is called {', '.join(missing)}" if missing else "nothing was named"
        raise SpiralError(f"{asked}; give --all or some of: {known}{found.lost()}")
    failed = False
    for row in rows:
        promises = broken_promises(found, row.kind, row.name)
        failed = failed or bool(promises)
        outside = getattr(row.factory, "external", False)
        said = "BROKEN" if promises else "not tried, it asks somebody outside" if outside else "ok"
        click.echo(f"{row.kind} {row.name} ({row.distribution} {row.version}): {said}")
        for promise in promises:
            click.echo(f"  - {promise}")
    sys.exit(1 if failed else 0)


@main.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@GAME
@click.option(
    "--opponent",
    "opponents",
    multiple=True,
    metavar="BOT",
    help="A bot, NAME or NAME:key=value; may be repeated.  [default: the run's]",
)
@click.option(
    "--games", "num_games", type=click.IntRange(min=1), default=500, show_default=True, help="Games per chair."
)
@AS_JSON
def evaluate(run: Path, game: str | None, opponents: tuple[str, ...], num_games: int, as_json: bool) -> None:
    """Play matches against bots: results by chair, with 95% intervals."""
    from spiral.evaluation.loaded_run import Inspected, match_rows

    inspected = Inspected.open(run)
    rows = match_rows(inspected, game, opponents, num_games)
    if not rows:
        raise SpiralError(f"{run} names no opponents to evaluate against; give some, such as --opponent random")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(
            f"{row['game']} vs {row['opponent']} as player {row['player']}: "
            f"win {row['win']:.3f} [{row['win_low']:.3f}, {row['win_high']:.3f}]  draw {row['draw']:.3f}  "
            f"loss {row['loss']:.3f}  return {row['mean_return']:+.3f} +- {row['return_error']:.3f}  "
            f"illegal {row['illegal']:.3f}  ({row['games']} games)"
        )


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@GAME
@click.option("--player", default=0, show_default=True, help="Your chair.")
@click.option("--seed", type=int, help="Play the same deal again.")
def play(run: Path, game: str | None, player: int, seed: int | None) -> None:
    """Play against a run's policy, here."""
    from spiral.commands.play import play_at_terminal
    from spiral.evaluation.loaded_run import Inspected

    inspected = Inspected.open(run)
    play_at_terminal(inspected, game, player, int(time.time()) if seed is None else seed)


@main.command()
@click.argument("kind", type=click.Choice(["game", "estimator", "opponent"]))
@click.argument("name")
@click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path("."), help="Parent folder.")
def new(kind: str, name: str, directory: Path) -> None:
    """Write a complete plug-in distribution that passes its own tests."""
    from spiral.commands.scaffold import create

    path = create(kind, name, directory)  # type: ignore[arg-type]
    click.echo(f"wrote {path}; next: pip install -e {path} && spiral check {name} && pytest {path}")


def _print_plugins(listed: Sequence[Any], asked: bool) -> None:
    """By kind and distribution, a line each where it is no terminal; all that is known of one that was asked for."""
    if asked and len(listed) == 1:
        return _print_plugin(listed[0])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    names = {id(r): f"{r.name}/... ({len(list(r.members()))})" if r.members else r.name for r in listed}
    column = 4 + max(map(len, names.values()))
    groups: dict[str, list[Any]] = {}
    for r in listed:
        groups.setdefault(f"{r.kind}: {r.distribution} {r.version}", []).append(r)
    for heading, rows in groups.items():
        click.echo(heading)
        for r in rows:
            doc = "" if asked and "/" in r.name else r.doc  # members of a family have none of their own
            lines = textwrap.wrap(doc, max(20, width - column)) or [""]
            click.echo(f"  {names[id(r)]:<{column - 2}}{lines[0]}".rstrip())
            for line in lines[1:]:
                click.echo(" " * column + line)


def _print_plugin(registration: Any) -> None:
    """What its factory says of itself, and its arguments."""
    factory = registration.factory
    parameters = inspect.signature(factory).parameters.values()
    click.echo(f"{registration.kind} {registration.name} ({registration.distribution} {registration.version})\n")
    click.echo(inspect.getdoc(getattr(factory, "func", factory)) or "")  # of a family's member: what the family says
    click.echo(f"\narguments: {', '.join(str(p.replace(annotation=p.empty)) for p in parameters) or 'none'}")


def _called(name: str, plugins: Any, kinds: Sequence[str]) -> list[Any]:
    """What has this name. A family that does not list such a member says itself why, by raising SpiralError."""
    rows = [r for r in plugins.named(name) if r.kind in kinds]
    family, _, member = name.partition("/")
    for r in plugins.registrations() if member and not rows else ():
        if r.members and r.name == family and r.kind in kinds:
            plugins.make(r.kind, name)
            rows.append(r.member(member))
    return rows


def _split(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The config file and the overrides among the words of `train`."""
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise SpiralError(f"one config file at most, not {len(files)}: {', '.join(files)}; overrides are key=value")
    return (Path(files[0]) if files else None), [word for word in words if "=" in word]
