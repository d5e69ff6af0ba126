"""The figure of a comparison of runs as a PNG; matplotlib is an extra."""

from __future__ import annotations

import io
from collections.abc import Sequence

from spiral.api.errors import SpiralError
from spiral.reports.comparison import Group, spread, title

COLOURS = ("#2563a8", "#c05a17", "#1b8069", "#84489f", "#8f6c0c", "#5b6470", "#b93867", "#1b83a8")
"""Those of the page."""


def comparison_png(groups: Sequence[Group], metrics: Sequence[str]) -> bytes:
    """A chart a metric, below each other. Raises SpiralError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SpiralError('the figure as a PNG needs matplotlib: pip install "spiral-selfplay[plots]"') from error
    # Not pyplot, which keeps figures and chooses a backend for the whole process.
    figure = Figure(figsize=(9, 3.6 * len(metrics)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(len(metrics), 1, place + 1)
        for group, colour in zip(groups, _cycled(len(groups)), strict=True):
            curves = [run.curves[metric] for run in group.runs if metric in run.curves]
            spreads = spread(curves)
            steps = [s.step for s in spreads]
            for curve in curves if len(curves) > 1 else ():
                axes.plot(*zip(*sorted(curve.items()), strict=True), color=colour, linewidth=0.6, alpha=0.45)
            if len(curves) > 1:
                axes.fill_between(steps, [s.low for s in spreads], [s.high for s in spreads], color=colour, alpha=0.12)
            if curves:
                label = f"{_plain(group.label)} ({len(curves)} run{'s' * (len(curves) > 1)})"
                axes.plot(steps, [s.mean for s in spreads], color=colour, linewidth=1.8, label=label)
        axes.set_title(_plain(title(metric)), loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.grid(color="#e4e1d9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _cycled(num: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(num)]


def _plain(text: str) -> str:
    """Without the marks that matplotlib would read as mathematics."""
    return text.replace("$", r"\$")
