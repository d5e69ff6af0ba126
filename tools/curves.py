"""Draws one metric of several runs as an SVG for the docs: python -m tools.curves METRIC OUT.svg LABEL=RUN ..."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 300, 48, 40, 12, 150
COLOURS = ("#2563eb", "#0d9488", "#7c3aed", "#dc2626", "#ea580c", "#64748b")

Curve = list[tuple[float, float]]
Band = list[tuple[float, float, float]]


def read(run: Path, metric: str) -> Curve:
    """(step, value) wherever the run's metrics hold the metric."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line[metric]) for line in lines if metric in line]


def svg(curves: dict[str, Curve], title: str, bands: dict[str, Band] | None = None) -> str:
    """A line chart with the curves' names at their ends; it has its own background, so it reads in dark mode too.

    `bands`: for some of the names, a lowest and a highest value at each step.
    """
    right = max(x for curve in curves.values() for x, _ in curve) or 1
    bands = bands or {}
    tops = [y for band in bands.values() for _, _, y in band]
    highest = max([y for curve in curves.values() for _, y in curve] + tops)
    unit = next(unit for unit in (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 5.0, 25.0, 1e9) if unit * 5 >= highest)
    top = unit * math.ceil(highest / unit)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="12" role="img" aria-label="{title}"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    ]
    for i in range(round(top / unit) + 1):
        y = unit * i
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(y, top)}" y2="{_y(y, top)}" stroke="#e2e8f0"/>'
            f'<text x="{LEFT - 6}" y="{_y(y, top) + 4}" text-anchor="end" fill="#475569">{y:.2f}</text>'
        )
    for i in range(5):
        x = right * i / 4
        parts.append(f'<text x="{_x(x, right)}" y="{HEIGHT - 16}" text-anchor="middle" fill="#475569">{x:.0f}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 2}" fill="#475569">{title}, by step</text>')
    for (name, curve), colour, y in zip(curves.items(), COLOURS, _spread(curves, top), strict=False):
        points = " ".join(f"{_x(a, right)},{_y(b, top)}" for a, b in curve)
        band = bands.get(name, [])
        edge = [(a, low) for a, low, _ in band] + [(a, high) for a, _, high in reversed(band)]
        outline = " ".join(f"{_x(a, right)},{_y(b, top)}" for a, b in edge)
        parts.append(f'<polygon points="{outline}" fill="{colour}" fill-opacity="0.12"/>' if band else "")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        label = f"{name}: {curve[-1][1]:.3f}"
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y + 4}" fill="{colour}">{label}</text>')
    return "".join(parts) + "</svg>\n"


def _spread(curves: dict[str, Curve], top: float) -> list[float]:
    """Heights of the labels: beside the curves' ends, pushed apart so that none covers another."""
    ends = sorted((_y(curve[-1][1], top), name) for name, curve in curves.items())
    placed: dict[str, float] = {}
    last = float(HEIGHT)
    for y, name in reversed(ends):
        last = placed[name] = min(y, last - 15)
    return [placed[name] for name in curves]


def _x(x: float, right: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * x / right, 1)


def _y(y: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y / top, 1)


def main(words: Sequence[str]) -> None:
    """See the module."""
    metric, out, *runs = words
    named = (word.partition("=") for word in runs)
    curves = {name: read(Path(run), metric) for name, _, run in named}
    Path(out).write_text(svg(curves, " ".join(metric.split("/")[1:]).replace("_", " ")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
