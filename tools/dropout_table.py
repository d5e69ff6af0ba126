"""The two regimes and the schedules of recipes/dropout_tiny, and its tables, from its results.json alone.

An interval is Student's over seeds. That of the difference to no dropout is taken over seeds too, of the differences:
runs of one seed begin with the same weights and read the same rows, so most of what differs between seeds cancels.
"""

from __future__ import annotations

from typing import Any

from tools.transfer.table import of_seeds

Json = dict[str, Any]

NONE = "none"
RATE = 0.1
SCHEDULES: dict[str, Json] = {
    NONE: {"rate": 0.0},
    "constant": {"rate": RATE},
    "early": {"rate": RATE, "schedule": "early"},
    "late": {"rate": RATE, "schedule": "late"},
    "linear_up": {"rate": RATE, "schedule": "linear_up"},
    "linear_down": {"rate": RATE, "schedule": "linear_down"},
    "triangle": {"rate": RATE, "schedule": "triangle"},
}
"""The rate of the report, and its schedules: switches after a fifth of the steps, ramps over all, three triangles."""
REGIMES: dict[str, Json] = {"underfitting": {}, "overfitting": {"text.trained_bytes": 30_000}}
"""Much text, of which a run reads a part once; and 30 kB of it, read twenty times."""


def summary(results: Json) -> Json:
    """Regime -> schedule -> means over seeds with intervals, and the differences to no dropout."""
    runs = results["runs"]
    return {regime: {schedule: _told(runs, regime, schedule) for schedule in SCHEDULES} for regime in REGIMES}


def _told(runs: list[Json], regime: str, schedule: str) -> Json:
    def values(of: str, key: str) -> list[float]:
        return [run["regimes"][regime][of][key] for run in runs]

    told: Json = {key: _rounded(values(schedule, key)) for key in ("bits_per_byte", "best", "trained")}
    if schedule != NONE:
        pairs = zip(values(schedule, "bits_per_byte"), values(NONE, "bits_per_byte"), strict=True)
        told["beyond_none"] = _rounded([one - other for one, other in pairs])
    return told


def _rounded(values: list[float]) -> list[float]:
    """[mean, low, high]; of one seed the value alone."""
    return [round(value, 4) for value in of_seeds(values) or values]


def tables(results: Json) -> str:
    """One table a regime."""
    if not results["runs"]:
        return "Not measured."
    return "\n\n".join(_table(results, regime) for regime in REGIMES)


def headline(results: Json) -> str:
    """The best schedule of each regime."""
    found = []
    for regime, told in results["summary"].items():
        best = min(told, key=lambda schedule: told[schedule]["bits_per_byte"][0])
        found.append(f"{regime}: {best}, {told[best]['bits_per_byte'][0]:.3f} bits per byte")
    return "; ".join(found)


def _table(results: Json, regime: str) -> str:
    seeds = [f"seed {seed}" for seed in results["seeds"]]
    head = [regime, "bits per byte ↓", "beyond none", "at best", "of its own text", *seeds]
    rows = [head, ["---"] * len(head)]
    for schedule, told in results["summary"][regime].items():
        single = [f"{run['regimes'][regime][schedule]['bits_per_byte']:.3f}" for run in results["runs"]]
        beyond = _interval(told["beyond_none"], "+.3f") if "beyond_none" in told else ""
        trained, best = (f"{told[key][0]:.3f}" for key in ("trained", "best"))
        rows.append([f"`{schedule}`", _interval(told["bits_per_byte"], ".3f"), beyond, best, trained, *single])
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


def _interval(values: list[float], form: str) -> str:
    mean, *bounds = (f"{value:{form}}" for value in values)
    return f"{mean} [{', '.join(bounds)}]" if bounds else mean
