"""Writes the page of a comparison of runs: a chart and a table a metric, each run thin and each group's mean thick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spiral.reports.comparison import Group, spread, title
from spiral.reports.html.curves import series
from spiral.reports.html.document import asset, document
from spiral.reports.html.values import rounded

Json = dict[str, Any]


def comparison_page(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """The page as HTML. The same runs give the same bytes."""
    data = {
        "num_runs": sum(len(group.runs) for group in groups),
        "groups": [{"label": g.label, "runs": [{"name": r.name, "seed": r.seed} for r in g.runs]} for g in groups],
        "metrics": [{"name": m, "title": title(m), "groups": [_of_group(g, m) for g in groups]} for m in metrics],
    }
    script = asset("charts.js") + asset("comparison.js")
    return document("Runs compared · spiral", data, asset("page.css"), script)


def _of_group(group: Group, metric: str) -> Json:
    """The curves of a group's runs in a metric, and what they came to at the last step that all have."""
    runs = [run for run in group.runs if metric in run.curves]
    spreads = spread([run.curves[metric] for run in runs])
    last = spreads[-1] if spreads else None
    return {
        "label": group.label,
        "num_runs": len(group.runs),
        "mean": series([(s.step, s.mean) for s in spreads]),
        "low": series([(s.step, s.low) for s in spreads]),
        "high": series([(s.step, s.high) for s in spreads]),
        "runs": [
            {"name": run.name, "seed": run.seed, "series": series(sorted(run.curves[metric].items()))} for run in runs
        ],
        "last": None
        if last is None
        else {
            "step": last.step,
            "mean": rounded(last.mean),
            "low": rounded(last.low),
            "high": rounded(last.high),
            "values": [{"seed": run.seed, "value": rounded(run.curves[metric][last.step])} for run in runs],
        },
    }
