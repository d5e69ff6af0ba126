"""Writes the page of an analysis of patterns: shares, and traces with verdicts and reasons, to read and to filter.

As safe as a run's page: what models wrote is embedded as data and shown as text only. The page is bounded in size; the
file of traces beside it holds them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spiral.reports.html.document import asset, document
from spiral.reports.html.values import as_text

Json = dict[str, Any]

MAX_TRACES = 800
"""Of all that were judged, spread over them."""
MAX_CHARS = 8_000_000
"""Of the texts of all traces together."""
MAX_TEXT = 40_000
"""Characters of one text; of a longer one both ends are shown."""


def patterns_page(record: Mapping[str, Any], traces: Sequence[Json]) -> str:
    """The page as HTML. The same record and traces give the same bytes."""
    shown = [traces[i * len(traces) // MAX_TRACES] for i in range(MAX_TRACES)] if len(traces) > MAX_TRACES else traces
    limit = min(MAX_TEXT, MAX_CHARS // max(1, len(shown)))
    data = {
        **record,
        "shown": [{**trace, "text": as_text(trace["text"], limit), "chars": len(trace["text"])} for trace in shown],
    }
    return document(
        "Patterns of reasoning · spiral",
        data,
        style=asset("page.css") + asset("patterns.css"),
        script=asset("charts.js") + asset("patterns.js"),
    )
