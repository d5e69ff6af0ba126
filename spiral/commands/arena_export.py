"""`spiral arena-export`."""

from __future__ import annotations

from pathlib import Path

import click

from spiral.api.errors import SpiralError
from spiral.arena.extra import arena_extra
from spiral.commands.output import echo


@click.command(short_help="The arena's matches as examples, which spiral sft learns from.")
@click.option("--db", default="sqlite:///arena.db", show_default=True, metavar="URL", help="SQLite or PostgreSQL.")
@click.option("--games", multiple=True, metavar="G", help="Of these games alone; may be repeated.  [default: all]")
@click.option("--player", metavar="NAME", help="One player's decisions alone.")
@click.option(
    "--keep",
    type=click.Choice(["wins", "all"]),
    default="all",
    show_default=True,
    help="The winner's decisions, or every player's.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("matches.jsonl"), show_default=True, help="What to write."
)
def arena_export(db: str, games: tuple[str, ...], player: str | None, keep: str, out: Path) -> None:
    """Write the matches that ended in an arena, which may run meanwhile, as JSON lines: a decision a line.

    spiral sft trains on them, and spiral tournament rates the players from them.
    """
    with arena_extra("spiral arena-export"):
        from spiral.arena.database import Database
        from spiral.arena.export import Wanted, export
        from spiral.arena.game_process import GameHost
        from spiral.arena.game_worker import installed
        from spiral.arena.store import Store
        from spiral.config.loading import parse_plugin
        from spiral.plugins.registry import Plugins, label
        from spiral.runs.files import write_atomic
        from spiral.selfplay.examples import line_of

    plugins, database = Plugins.installed(), Database(db, exists=True)
    store = Store(database)
    try:
        asked = [parse_plugin(game) for game in games or store.games_played()]
        missing = {label(one.name, one.args): plugins.problem("game", one.name, one.args) for one in asked}
        if games and (problems := [problem for problem in missing.values() if problem is not None]):
            raise SpiralError(problems[0])
        host = GameHost(installed([one for one in asked if missing[label(one.name, one.args)] is None]))
        try:
            lines, num, left_out = bytearray(), 0, 0
            for name in missing:
                for _, found in export(store, host, name, Wanted(keep, player)):  # type: ignore[arg-type]
                    if isinstance(found, Exception):
                        left_out += 1
                    elif found:
                        num += 1
                        lines += b"".join(map(line_of, found))
        finally:
            host.close()
    finally:
        store.close()
        database.close()
    write_atomic(out, bytes(lines))
    more = f", {left_out:,} left out that cannot be played again with the games installed now" if left_out else ""
    echo(f"{out}: {num:,} matches{more}; train on them with: spiral sft {out}")
