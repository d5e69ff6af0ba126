"""Writes a tournament's page from its record, the JSON value that `spiral.evaluation.tournament` makes.

As safe as a run's page: names come from users and models, so they are embedded as data and shown as text only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spiral.reports.html.document import asset, document


def tournament_page(record: Mapping[str, Any]) -> str:
    """The page as HTML. The same record gives the same bytes."""
    return document(
        f"{record.get('game', '')} tournament · spiral",
        record,
        style=asset("page.css") + asset("tournament.css"),
        script=asset("charts.js") + asset("tournament.js"),
    )
