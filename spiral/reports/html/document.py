"""Writes one page to look at a run with; knows no game, and nothing of how the run's files came to be.

The page is a single HTML file that asks the network for nothing. A run directory is untrusted, game text above
all: it is embedded as JSON in which no tag can begin, the page shows it as text only, and a content security
policy lets no other script run. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiral.api.errors import RunError
from spiral.reports.html.records import collect


def write_report(run_dir: Path) -> Path:
    """Build `run_dir`/report.html and return its path; RunError if there is no such directory.

    Any file of the run may be missing, empty or cut off. The page appears whole or not at all.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise RunError(f"no run directory {run_dir}; give the directory that `spiral train` wrote")
    path = run_dir / "report.html"
    # In the same directory, since a rename across file systems is not atomic.
    unfinished = run_dir / f".report.html.{os.getpid()}"
    try:
        unfinished.write_text(render(collect(run_dir)), encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def render(data: Mapping[str, Any]) -> str:
    """A run's page as HTML, with `data` inside."""
    script = asset("charts.js") + asset("health.js") + asset("page.js")
    return document(f"{data.get('run', '')} · spiral", data, asset("page.css"), script)


def document(title: str, data: Mapping[str, Any], style: str, script: str) -> str:
    """A page that draws itself from `data`: no other script or style runs, and nothing is asked of the network."""
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": embed(data),
    }
    # One pass, so that no part is searched for the mark of another.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], asset("page.html"))


def embed(data: Any) -> str:
    """JSON that is safe inside a script element: ASCII, and without a character that begins or ends a tag."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return (Path(__file__).with_name("assets") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
