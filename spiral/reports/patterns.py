"""Shows an analysis of patterns on the terminal: shares by stage and game, games against tasks, agreement and notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spiral.api.text import printable
from spiral.reports.tournament import shown

Json = dict[str, Any]

WIDTH = 140
"""Characters of a table at least, where there is no terminal."""


def print_patterns(record: Json, console: Console) -> None:
    """The tables, and what a reader of them must know."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(WIDTH, 64 + 26 * len(record["rubric"])))
    console.print(_share_matrix(record))
    if any(_both(row) for row in record["transfer"]):
        console.print(_transfer_matrix(record))
    if record["changes"]:
        console.print(_change_matrix(record))
    console.print(_agreement_matrix(record))
    lines = [
        f"reading {n}: {reading['judge']}, {reading['wording']}" for n, reading in enumerate(record["readings"], 1)
    ]
    lines += [_spent(spent) for spent in record["spent"]]
    for line in [*lines, *(f"note: {note}" for note in record["notes"])]:
        console.print(Text(printable(line)), soft_wrap=True)


def _share_matrix(record: Json) -> Table:
    table = Table(title="traces that show a pattern, 95% interval", title_justify="left", box=SIMPLE)
    _columns(table, ("policy", "steps", "of"), ("traces", *_names(record)))
    last = None
    for row in record["cells"]:
        judged = row["patterns"][0]["judged"]
        traces = str(judged) if judged == row["traces"] else f"{judged} of {row['traces']}"
        shares = [_within(entry) for entry in row["patterns"]]
        policy = "" if row["policy"] == last else shown(row["policy"])
        table.add_row(Text(policy), row["steps"] or "-", Text(shown(row["name"])), traces, *shares)
        last = row["policy"]
    return table


def _transfer_matrix(record: Json) -> Table:
    table = Table(title="games against tasks", title_justify="left", box=SIMPLE)
    _columns(table, ("policy", "steps", "pattern"), ("in games", "in tasks", "tasks less games, 95%"))
    for row in record["transfer"]:
        if not _both(row):
            continue
        for number, entry in enumerate(row["patterns"]):
            table.add_row(
                Text("" if number else shown(row["policy"])),
                "" if number else row["steps"] or "-",
                Text(shown(entry["pattern"])),
                _within(entry["games"]),
                _within(entry["tasks"]),
                _within(entry["difference"], "+"),
            )
    return table


def _change_matrix(record: Json) -> Table:
    table = Table(title="from the first stage to the last", title_justify="left", box=SIMPLE)
    _columns(table, ("policy", "in", "steps"), _names(record))
    for row in record["changes"]:
        found = {entry["pattern"]: _within(entry, "+") for entry in row["patterns"]}
        moved = [found.get(name, "-") for name in _names(record)]
        table.add_row(Text(shown(row["policy"])), f"{row['domain']}s", f"{row['from']} to {row['to']}", *moved)
    return table


def _agreement_matrix(record: Json) -> Table:
    table = Table(title="agreement of the two readings", title_justify="left", box=SIMPLE)
    _columns(table, ("pattern",), ("traces", "same verdict", "Cohen's kappa, 95%"))
    for row in record["agreement"]:
        kappa = "-" if row["low"] is None else f"not defined [{row['low']:.2f}, {row['high']:.2f}]"
        if row["kappa"] is not None:
            kappa = f"{row['kappa']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        same = f"{row['agreement']:.1%}" if row["num"] else "-"
        table.add_row(Text(shown(row["pattern"])), str(row["num"]), same, kappa)
    return table


def _columns(table: Table, left: Sequence[str], right: Sequence[str]) -> None:
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(Text(shown(heading)), justify="right", overflow="fold")


def _names(record: Json) -> list[str]:
    return [pattern["name"] for pattern in record["rubric"]]


def _both(row: Json) -> bool:
    """Whether there are judged traces of games and of tasks."""
    return any(entry["difference"] is not None for entry in row["patterns"])


def _within(entry: Json | None, sign: str = "") -> str:
    """A share with its interval, in percent."""
    if entry is None or entry["share"] is None:
        return "-"
    share, low, high = (f"{100 * entry[key]:{sign}.0f}" for key in ("share", "low", "high"))
    return f"{share}% [{low}, {high}]"


def _spent(spent: Json) -> str:
    told = f"{spent['judge']}: {spent.get('calls', 0):,} calls"
    tokens = spent.get("prompt_tokens"), spent.get("reply_tokens")
    if None not in tokens:
        told += f", {tokens[0]:,} tokens read and {tokens[1]:,} written"
    if spent.get("cost"):
        told += f", cost {spent['cost']:.4g}"
    if spent.get("failures"):
        told += "; failed calls: " + ", ".join(f"{cause} {times}" for cause, times in spent["failures"].items())
    return told
