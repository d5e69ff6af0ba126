"""Shows what a bench came to on the terminal: a table of benchmarks and models, differences, means and notes."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spiral.api.text import printable
from spiral.reports.tournament import shown

Json = dict[str, Any]

WIDTH = 140
"""Characters of a table where there is no terminal."""


def print_bench(record: Json, console: Console) -> None:
    """The table, and what a reader of it must know."""
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH)
    console.print(_accuracy_matrix(record))
    if record["differences"]:
        console.print(_difference_matrix(record))
    lines = [f"note: {note}" for note in record["notes"]]
    if record["games"]:
        lines.append("the suite's games, each a command of its own:")
        lines += [f"  {game['command']}{'  (held out)' if game['held_out'] else ''}" for game in record["games"]]
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)


def _accuracy_matrix(record: Json) -> Table:
    table = Table(
        title="share of replies that were right, 95% interval; tokens of a reply and in all",
        title_justify="left",
        box=SIMPLE,
    )
    for heading in ("benchmark", "model"):
        table.add_column(heading, overflow="fold")
    several = any(one["samples"] > 1 for one in record["benchmarks"])
    graded = any(abs(row["mean_grade"] - row["accuracy"]) > 5e-4 for row in record["rows"])
    headings = ["asked", "right", *(["pass@k"] if several else []), *(["mean grade"] if graded else [])]
    for heading in (*headings, "cut", "unreadable", "a reply", "tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    samples = {one["label"]: one["samples"] for one in record["benchmarks"]}
    last = None
    for row in record["rows"]:
        k = samples[row["benchmark"]]
        name = shown(row["benchmark"] + (f"@{k}" if k > 1 else ""))
        table.add_row(
            Text("" if name == last else name),
            Text(shown(row["model"])),
            str(row["questions"]),
            _within(row["accuracy"], row["low"], row["high"]),
            *([_passed(row, k)] if several else []),
            *([f"{row['mean_grade']:.3f}"] if graded else []),
            f"{row['cut']:.1%}",
            f"{row['unreadable']:.1%}",
            f"{row['mean_reply_tokens']:,.0f}",
            f"{row['reply_tokens']:,}",
        )
        last = name
    blank = [""] * (several + graded + 3)
    for place, row in enumerate(record["means"]["models"]):
        mean = _within(row["accuracy"], row["low"], row["high"])
        table.add_row(
            "mean of benchmarks" if not place else "", Text(shown(row["model"])), "", mean, *blank,
            f"{row['reply_tokens']:,}", end_section=False,
        )  # fmt: skip
    return table


def _difference_matrix(record: Json) -> Table:
    first = shown(record["models"][0]["name"])
    table = Table(title=f"against {first} on the same questions, 95% interval", title_justify="left", box=SIMPLE)
    for heading in ("benchmark", "model"):
        table.add_column(heading, overflow="fold")
    for heading in ("difference", "better", "worse", "McNemar p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in record["differences"]:
        table.add_row(
            Text(shown(row["benchmark"])),
            Text(shown(row["model"])),
            _within(row["mean"], row["low"], row["high"], "+z"),
            str(row["better"]),
            str(row["worse"]),
            "-" if row["p_value"] is None else f"{row['p_value']:.2g}",
        )
    for row in record["means"]["differences"]:
        mean = _within(row["mean"], row["low"], row["high"], "+z")
        table.add_row("mean of benchmarks", Text(shown(row["model"])), mean, "", "", "")
    return table


def _passed(row: Json, k: int) -> str:
    value = row["pass_at"].get(str(k))
    return "-" if value is None or k == 1 else f"{value:.3f}"


def _within(value: float, low: float, high: float, sign: str = "") -> Text:
    return Text.assemble(f"{value:{sign}.3f}\n", (f"{low:{sign}.2f} to {high:{sign}.2f}", "dim"))
