"""Pages that show runs while they train, by `spiral watch` or in an arena; read only, from the files that a run writes.

A run's page is its report, which asks now and then whether there is more and draws itself anew then. Apart from the
arena's own pages: these need no database, and a run is all that they know of.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.templating import Jinja2Templates

from spiral.api.errors import RunError
from spiral.api.text import printable
from spiral.reports.html.document import render
from spiral.reports.html.records import collect, from_config
from spiral.reports.html.values import as_dict, as_list, as_text
from spiral.reports.terminal import headline
from spiral.runs import metric_names

PAGES = Path(__file__).with_name("pages")
PATTERNS = ("config.yaml", "*/config.yaml", "*/*/config.yaml")
"""Where runs are found below the folder."""
MAX_RUNS = 200
"""Runs shown, those that were written last."""
TAIL = 1 << 18
"""Bytes of the end of a file that a line of the table is made of."""
RECENT = 50
"""Steps whose median time says how long the rest will take."""
MAX_PAGES = 16
"""Pages of runs that are kept as they were made."""
EVERY_S = 5
"""Between two looks of a page."""
WRITTEN = ("metrics.jsonl", "episodes.jsonl", "events.jsonl", "voided.jsonl", "policy.json", "pool.json", "config.yaml")
"""Files of a run whose change makes its page another one."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class RunSummary:
    """How far a run is, and how it does."""

    name: str
    games: str
    model: str
    done: int
    """Steps that are done."""
    steps: int | None
    """Steps that were asked for; None where that is not known."""
    left_s: float | None
    """What the rest will take, by its recent steps; None before the first one, 0 when it is done."""
    age_s: float
    """Since it last wrote."""
    figures: tuple[tuple[str, str], ...]
    """What it is judged by, as last measured: name and figures."""
    last_game: str
    """The moves of the newest game that was kept."""
    health: str
    """The last event of its health; empty without one."""


def find_runs(folder: Path) -> dict[str, Path]:
    """The runs in a folder, or the one that it is: name -> directory, those that were written last first.

    Raises RunError for a folder that is not there.
    """
    if not folder.is_dir():
        raise RunError(f"there is no directory {folder} to watch; give a run, or the folder that holds runs")
    found = [path.parent for pattern in PATTERNS for path in folder.glob(pattern)]
    found = sorted(found, key=_written, reverse=True)[:MAX_RUNS]
    return {folder.resolve().name if run == folder else run.relative_to(folder).as_posix(): run for run in found}


def summary(name: str, run: Path) -> RunSummary:
    """How a run stands. Any of its files may be missing, or end in the middle of a line."""
    try:
        configured = from_config((run / "config.yaml").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        configured = from_config("")
    rows = _tail(run / "metrics.jsonl")
    latest: dict[str, float] = {}
    for row in rows:
        latest |= {k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}
    trained = [row for row in rows if isinstance(row.get(metric_names.STEP_SECONDS), int | float)]
    done = 1 + int(trained[-1].get("step", -1)) if trained else 0
    steps = configured["steps"]
    left_s = None
    if trained and steps is not None:
        each = statistics.median(row[metric_names.STEP_SECONDS] for row in trained[-RECENT:])
        left_s = max(0, steps - done) * float(each)
    figures = headline(latest)
    events = _tail(run / "events.jsonl")
    episodes = _tail(run / "episodes.jsonl")
    return RunSummary(
        name=printable(name),
        games=printable(", ".join(configured["games"])),
        model=printable(configured["model"]),
        done=done,
        steps=steps,
        left_s=left_s,
        age_s=max(0.0, time.time() - _written(run)),
        figures=tuple((printable(key), ", ".join(f"{v:.3g}" for v in values)) for key, values in figures.items()),
        last_game=_moves(episodes[-1]) if episodes else "",
        health=printable(as_text(events[-1].get("sentence"), 300)) if events else "",
    )


def application(folder: Path) -> Starlette:
    """The pages of a folder of runs, or of one. Raises RunError for a folder that is not there."""
    return Starlette(routes=run_routes(folder, "/"))


def run_routes(folder: Path, table_at: str, nav: Sequence[tuple[str, str]] = ()) -> list[BaseRoute]:
    """The addresses of those pages: see `RunPages`. Raises RunError for a folder that is not there."""
    find_runs(folder)
    return RunPages(folder, table_at, nav).routes()


class RunPages:
    """What each address answers."""

    def __init__(self, folder: Path, table_at: str, nav: Sequence[tuple[str, str]] = ()) -> None:
        """`table_at`: the address of the table of all runs. `nav`: name and address of the pages that it stands
        among."""
        self._folder, self._table_at = folder, table_at
        self._templates = Jinja2Templates(directory=PAGES)
        self._templates.env.filters["duration"] = duration
        self._templates.env.globals["nav"] = nav
        self._pages: dict[Path, tuple[str, str]] = {}
        """Run -> the stamp of its files, and its page as it was made of them."""
        self._summaries: dict[Path, tuple[str, RunSummary]] = {}
        """The same of its line in the table."""

    def routes(self) -> list[BaseRoute]:
        """The table, what it loads, and a page a run."""
        return [
            Route(self._table_at, self.table),
            Route("/runs.css", self.style),
            Route("/runs/{name:path}/state", self.state),
            Route("/runs/{name:path}", self.run),
        ]

    async def table(self, request: Request) -> Response:
        """All runs, a line each; the browser asks for it again by itself."""
        found = await asyncio.to_thread(find_runs, self._folder)
        told = await asyncio.to_thread(lambda: [self._summary(name, run) for name, run in found.items()])
        lines = [(one, address_of(name)) for name, one in zip(found, told, strict=True)]
        values = {"runs": lines, "folder": printable(self._folder.resolve().name), "every_s": EVERY_S}
        values["here"] = request.url.path
        return self._templates.TemplateResponse(request, "runs.html", values, headers=HEADERS)

    async def style(self, request: Request) -> Response:
        """Of the table."""
        text = "".join((PAGES / "static" / name).read_text(encoding="utf-8") for name in ("arena.css", "runs.css"))
        return Response(text, media_type="text/css", headers=HEADERS)

    async def run(self, request: Request) -> Response:
        """A run's report, as it is now."""
        run = await asyncio.to_thread(self._found, request)
        text = await asyncio.to_thread(self._page, run)
        # Its own policy is in the page: a script and a style by their hashes, and questions to this server alone.
        headers = {k: v for k, v in HEADERS.items() if k != "content-security-policy"}
        return HTMLResponse(text, headers={**headers, "content-security-policy": "frame-ancestors 'none'"})

    async def state(self, request: Request) -> Response:
        """What the page asks for now and then."""
        run = await asyncio.to_thread(self._found, request)
        one = await asyncio.to_thread(self._summary, request.path_params["name"], run)
        told = {"stamp": stamp(run), "done": one.done, "steps": one.steps, "left_s": one.left_s, "age_s": one.age_s}
        return JSONResponse(told, headers=HEADERS)

    def _found(self, request: Request) -> Path:
        run = find_runs(self._folder).get(request.path_params["name"])
        if run is None:
            raise HTTPException(404, "there is no run of this name")
        return run

    def _page(self, run: Path) -> str:
        now = stamp(run)
        known = self._pages.pop(run, None)
        if known is None or known[0] != now:
            data = {**collect(run), "live": {"stamp": now, "every_s": EVERY_S, "all": self._table_at}}
            known = now, render(data)
        self._pages[run] = known  # behind the others: the first is the one that was asked for longest ago
        while len(self._pages) > MAX_PAGES:
            self._pages.pop(next(iter(self._pages)))
        return known[1]

    def _summary(self, name: str, run: Path) -> RunSummary:
        """Read again only where the run wrote: many may look at a table of many runs."""
        now = stamp(run)
        known = self._summaries.get(run)
        if known is None or known[0] != now:
            known = self._summaries[run] = now, summary(name, run)
        return replace(known[1], age_s=max(0.0, time.time() - _written(run)))


def address_of(name: str) -> str:
    """Of the page of a run, by its name in `find_runs`."""
    return f"/runs/{quote(name)}"


def stamp(run: Path) -> str:
    """Another text whenever a run wrote something that its page shows."""
    found = [path.stat() for name in WRITTEN if (path := run / name).exists()]
    return "-".join(f"{one.st_size:x}.{one.st_mtime_ns:x}" for one in found)


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 60 else f"{minutes / 60:.1f} h"


def _written(run: Path) -> float:
    """When a run last wrote, as seconds since the epoch."""
    return max((path.stat().st_mtime for name in WRITTEN if (path := run / name).exists()), default=0.0)


def _tail(path: Path) -> list[dict[str, Any]]:
    """The objects in the last lines of a file that are whole."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the first may have begun before, and the last be in the writing
        if isinstance(value, dict):
            found.append(value)
    return found


def _moves(episode: dict[str, Any]) -> str:
    turns = [as_dict(turn) for turn in as_list(episode.get("turns"))]
    moves = " ".join(as_text(turn.get("move"), 40) for turn in turns)
    returns = ", ".join(as_text(value, 12) for value in as_list(episode.get("returns")))
    return printable(f"{as_text(episode.get('game'), 60)}: {as_text(moves, 160)} ({returns})")
