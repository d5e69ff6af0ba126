"""Writes a run's page: a single HTML file that asks the network for nothing.

A run directory is untrusted, game text above all: it is embedded as JSON in which no tag can begin, the page shows it
as text only, and a content security policy lets no other script run. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiral.api.errors import RunError
from spiral.api.text import printable
from spiral.reports.html.records import collect
from spiral.runs.files import write_atomic

SCRIPTS = ("charts.js", "curves.js", "health.js", "timeline.js", "replay.js", "text.js", "page.js")
"""In this order: page.js lays out what the others define."""


def write_report(run_dir: Path) -> Path:
    """Build `run_dir`/report.html and return its path; RunError if there is no such directory.

    Any file of the run may be missing, empty or cut off. The page appears whole or not at all.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise RunError(f"no run directory {run_dir}; give the directory that `spiral train` wrote")
    path = run_dir / "report.html"
    write_atomic(path, render(collect(run_dir)), shared=True)  # a second process may look at the run
    return path


def render(data: Mapping[str, Any]) -> str:
    """A run's page as HTML, with `data` inside. With `live` in it, the page asks the server that shows it for more."""
    is_live = "live" in data
    script = "".join(map(asset, [*SCRIPTS, *(["live.js"] if is_live else [])]))
    return document(f"{data.get('run', '')} · spiral", data, asset("page.css"), script, asks=is_live)


def document(title: str, data: Mapping[str, Any], style: str, script: str, asks: bool = False) -> str:
    """A page that draws itself from `data`: no other script or style runs, and nothing is asked of the network, or with
    `asks` of the server alone that it came from."""
    # The policy names the one style and the one script by their hashes, so markup that slipped in could run nothing.
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    policy += "; connect-src 'self'" if asks else ""
    parts = {
        "policy": policy,
        "title": html.escape(printable(title)),
        "style": style,
        "script": script,
        "data": embed(data),
    }
    # One pass, so that no part is searched for the mark of another.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], asset("page.html"))


def embed(data: Any) -> str:
    """JSON that is safe inside a script element: ASCII, and without a character that begins or ends a tag."""
    # Escaped inside JSON strings, the only place of these characters: a script element ends at the first `</script`,
    # whatever its type, and `<!--` changes how its rest is read.
    text = json.dumps(_printable(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(data: Any) -> Any:
    """JSON values with printable texts: browsers too obey marks that turn the direction of writing."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, Mapping):
        return {printable(str(key)): _printable(value) for key, value in data.items()}
    return [_printable(value) for value in data] if isinstance(data, list | tuple) else data


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return (Path(__file__).with_name("assets") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
