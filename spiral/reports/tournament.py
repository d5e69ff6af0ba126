"""Shows a tournament on the terminal: a progress bar while it is played, tables when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from spiral.api.text import printable
from spiral.evaluation.tournament.crosstable import Json

PLAIN_EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""
MAX_NAME = 48


@contextmanager
def progress(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """A bar, or plain lines where there is no terminal; give the function to `Tournament.play`."""
    if not console.is_terminal:
        yield _plain(console)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[pair]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("games", total=None, pair="")
        yield lambda done, total, pair: bar.update(task, completed=done, total=total, pair=shown(pair))


def print_record(record: Json, console: Console) -> None:
    """Results, ratings, Nash average and cycles."""
    players = record["players"]
    title = f"{record['game']}: {record['games']} games, {len(players)} players, {record['config']['schedule']}\n"
    console.print(Text(printable(title)), soft_wrap=True)
    console.print(_matrix(record), _ratings(record), sep="\n")
    for line in _remarks(record):
        console.print(Text(printable(line)), soft_wrap=True)


def shown(name: str) -> str:
    """A name, printable and of bounded length, on one line."""
    safe = printable(" ".join(name.split("\n")))
    return safe if len(safe) <= MAX_NAME else f"{safe[: MAX_NAME // 2 - 1]}...{safe[-MAX_NAME // 2 + 2 :]}"


def in_order(record: Json) -> list[int]:
    """The players by what the game is played for, the best first; last those without a game."""
    players, key = record["players"], "worth" if record["graded"] else "elo"
    return sorted(range(len(players)), key=lambda n: (key not in players[n], -players[n].get(key, 0.0), n))


def _plain(console: Console) -> Callable[[int, int, str], None]:
    last = -PLAIN_EVERY_S

    def show(done: int, total: int, pair: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S or done == total:
            last = time.monotonic()
            console.print(Text(f"{done} of {total} games  {shown(pair)}".rstrip()), soft_wrap=True)

    return show


def _matrix(record: Json) -> Table:
    """What the row gets against the column."""
    order, players = in_order(record), record["players"]
    what = "margin, 95% interval, score" if record["graded"] else "score, 95% interval, mean return"
    table = Table(title=f"the row against the column: {what}; * beats it", title_justify="left", box=SIMPLE)
    table.add_column("", no_wrap=True)
    for place in range(len(order)):
        table.add_column(str(place + 1), justify="center", no_wrap=True)
    found = {(cell["row"], cell["column"]): cell for cell in record["cells"]}
    for place, row in enumerate(order):
        cells = [_cell(found.get((row, column)), record["graded"], row == column) for column in order]
        table.add_row(Text(f"{place + 1} {shown(players[row]['name'])}"), *cells)
    return table


def _cell(cell: Json | None, graded: bool, same: bool) -> Text:
    if cell is None:
        return Text("" if same else "-", style="dim")
    star, style = ("*", "bold") if cell["beats"] else ("", "")
    if graded:
        ends = _ends(cell["margin_low"], cell["margin_high"], "+z.2f")
        first, below = f"{cell['margin']:+z.3f}{star}", f"{ends}\nscore {cell['score']:.3f}"
    else:
        ends = _ends(cell["score_low"], cell["score_high"], ".2f")
        first, below = f"{cell['score']:.3f}{star}", f"{ends}\n{cell['return']:+z.3f}"
    return Text.assemble((f"{first}\n", style), (below, "dim"))


def _ratings(record: Json) -> Table:
    graded, players = record["graded"], record["players"]
    table = Table(title="ratings", title_justify="left", box=SIMPLE)
    table.add_column("player", no_wrap=True)
    columns = ["Elo, 95%", "live mu, sigma", "Nash average, 95%", "score", "forfeited", "cut", "games", "voided"]
    for heading in (["worth, 95%"] if graded else []) + columns:
        table.add_column(heading, justify="right")
    for place, number in enumerate(in_order(record)):
        p = players[number]
        name = Text(f"{place + 1} {shown(p['name'])}")
        voided = Text("\n".join(f"{times} {shown(cause)}" for cause, times in p["voided"].items()) or "0")
        if "elo" not in p:
            table.add_row(name, *["-"] * (len(table.columns) - 3), "0", voided)
            continue
        worth = [f"{p['worth']:+z.3f}\n{_ends(p['worth_low'], p['worth_high'], '+z.2f')}"] if graded else []
        table.add_row(
            name,
            *worth,
            f"{p['elo']:+z.0f}\n{_ends(p['elo_low'], p['elo_high'], '+z.0f')}",
            f"{p['mu']:.1f}, {p['sigma']:.1f}",
            f"{p['nash']:.3f}\n{_ends(p['nash_low'], p['nash_high'], '.2f')}",
            "-" if p["score"] is None else f"{p['score']:.3f}",
            "\n".join([f"{p['illegal']:.1%}", *(f"{times} {fault}" for fault, times in p["faults"].items())]),
            f"{p['cut']:.1%}",
            str(p["games"]),
            voided,
        )
    return table


def _ends(low: float | None, high: float | None, form: str) -> str:
    if low is None and high is None:
        return "unknown"
    if low is None:
        return f"at most {high:{form}}"
    return f"at least {low:{form}}" if high is None else f"{low:{form}} to {high:{form}}"


def _remarks(record: Json) -> Iterator[str]:
    names = [shown(player["name"]) for player in record["players"]]
    for ring in record["cycles"]:
        steps = [f"{names[n]} beats ({by:.2f})" for n, by in zip(ring["players"], ring["steps"], strict=True)]
        yield f"cycle: {' '.join(steps)} {names[ring['players'][0]]}"
    if len(record["cycles"]) < record["num_cycles"]:
        yield f"and {record['num_cycles'] - len(record['cycles'])} more cycles"
    if not record["cycles"]:
        yield "no cycle: no ring of players in which each beats the next beyond the interval"
    if record["num_voided"]:
        last = record["voided"][-1]
        yield f"{record['num_voided']} games were voided and replaced, as did deal {last['deal']}: {last['reason']}"
    yield from (f"note: {note}" for note in record["notes"])
