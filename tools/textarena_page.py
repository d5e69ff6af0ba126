"""Measures every environment of TextArena through the adapter, and writes down what it found.

`python -m tools.textarena_page` writes the table that ships with the adapter and docs/games/textarena.md. Each
environment is measured in a process of its own with a time limit, and the table is written after each, so that a run
that is stopped loses nothing; `--only REGEX` measures some and keeps the other rows, `--quick` measures only refusals
and speeds again, and `--page` only writes the page.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from spiral_games.textarena import catalogue, importing
from spiral_games.textarena.catalogue import Row

from tools.textarena_measure import TOO_SLOW, brackets, measure, measure_quickly, unplayable
from tools.textarena_notes import NEED_A_KEY, page

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "games" / "textarena.md"
TABLE = ROOT / "plugins" / "games" / "spiral_games" / "textarena" / catalogue.FILE
LIMIT_S = 120.0
"""Wall seconds for one environment; what has been measured by then is kept."""


def measured(env_id: str, known: Row | None) -> Row:
    """Measure in a child, which is killed when its time is up; only refusals and speeds of a row that is `known`."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure_quickly if known else measure, args=(known or env_id, sender))
    child.start()
    sender.close()
    row = known
    until = time.monotonic() + LIMIT_S
    while receiver.poll(max(0.0, until - time.monotonic())):
        try:
            row = receiver.recv()
        except EOFError:
            break
    child.kill()
    child.join()
    if row is None:
        blank = Row(env_id, False, "", 1, 1, 0, False, False, -1.0, brackets(env_id), True, False, 0, 0, 0, "", "")
        return unplayable(blank, TOO_SLOW)
    return row


def write(rows: Mapping[str, Row], order: list[str]) -> None:
    """The table, one line an environment."""
    names = [field.name for field in fields(Row)]
    unfinished = TABLE.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n", escapechar="\\")
        writer.writerow(names)
        for env_id in order:
            if env_id in rows:
                values = asdict(rows[env_id])
                flags = {True: "yes", False: ""}
                cells = [flags[v] if isinstance(v, bool) else str(v) for v in (values[name] for name in names)]
                writer.writerow([cell.replace("\t", " ").replace('"', "'").replace("\\", "/") for cell in cells])
    unfinished.replace(TABLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help="measure only these ids, keep the other rows")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from the table")
    parser.add_argument("--quick", action="store_true", help="measure only refusals and speeds of what plays")
    options = parser.parse_args()
    order = [i for i in importing.registry() if not i.endswith(("-train", "-raw"))]
    known = dict(catalogue.rows())
    if not options.page:
        for key in NEED_A_KEY:
            os.environ.pop(key, None)
        warm_up()
        for number, env_id in enumerate(order, 1):
            if not re.search(options.only, env_id) or (options.quick and not known[env_id].offline):
                continue
            start = time.monotonic()
            known[env_id] = row = measured(env_id, known[env_id] if options.quick else None)
            write(known, order)
            outcome = row.reason or row.conformance or "keeps every promise"
            print(f"{number:3}/{len(order)} {env_id:34} {time.monotonic() - start:5.1f} s  {outcome[:120]}", flush=True)
    PAGE.write_text(page([known[i] for i in order if i in known]), encoding="utf-8")


def warm_up() -> None:
    """Load the dictionary once, so that every forked child has it."""
    importing.environment_class("WordChains-v0")
    importing.make("WordChains-v0", {})


if __name__ == "__main__":
    main()
