"""`spiral simulate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spiral.commands.options import AS_JSON
from spiral.commands.output import echo, shown_progress

if TYPE_CHECKING:
    from spiral.cluster.simulation.cluster import Outcome


@click.command(short_help="What a cluster that is not there would do: games a second, idleness, what to add next.")
@click.argument("path", metavar="CLUSTER.yaml", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Of the lengths of games.")
@AS_JSON
def simulate(path: Path, seed: int, as_json: bool) -> None:
    """A run on a cluster with a virtual clock: the scheduling of `cluster=ray`, with engines and a learner by the rates
    in a file, see docs/scaling.md.

    For each number of engines and bound on staleness: games and reply tokens a second, how busy engines and learner
    are, the mean age of the games in versions, and what to add next.
    """
    from spiral.api.progress import Phase
    from spiral.cluster.simulation.cluster import simulate as run
    from spiral.cluster.simulation.cluster import what_to_add
    from spiral.cluster.simulation.reading import read_cluster

    cluster = read_cluster(path)
    draw, settings = cluster.draw(), cluster.settings()
    found: list[tuple[Outcome, dict[str, float]]] = []
    with shown_progress() as progress:
        progress(Phase("simulating", len(settings), "settings", lambda: len(found)))
        for setting in settings:
            outcome = run(setting, draw, seed)
            found.append((outcome, what_to_add(outcome, draw, seed)))
    for line in [json.dumps([_row(*one) for one in found], indent=2)] if as_json else _lines(found):
        echo(line)


def _row(outcome: Outcome, added: dict[str, float]) -> dict[str, Any]:
    row = asdict(outcome)
    setting = row.pop("setting")
    return {"engines": setting["engines"], "bound": setting["staleness"], **row, "gain_of": added}


COLUMNS = (
    ("engines", 7), ("bound", 5), ("games/s", 9), ("tokens/s", 10), ("age", 5),
    ("engines", 8), ("learner", 8), ("tail", 8),
)  # fmt: skip
UNITS = ("", "", "", "", "", "busy", "busy", "s")


def _lines(found: Sequence[tuple[Outcome, dict[str, float]]]) -> list[str]:
    widths = [width for _, width in COLUMNS]
    lines = [_line(widths, [name for name, _ in COLUMNS]), _line(widths, UNITS) + "  next"]
    for o, added in found:
        best = max(added, key=lambda name: added[name])
        shares = f"{o.engines_busy:.0%}", f"{o.learner_busy:.0%}"
        rates = f"{o.games_per_s:.3g}", f"{o.tokens_per_s:.4g}", f"{o.staleness:.2f}"
        cells = [str(o.setting.engines), str(o.setting.staleness), *rates, *shares, f"{o.tail_s:.3g}"]
        lines.append(f"{_line(widths, cells)}  {_said(best, added[best])}")
    return lines


def _line(widths: Sequence[int], cells: Sequence[str]) -> str:
    return " ".join(f"{cell:>{width}}" for width, cell in zip(widths, cells, strict=True))


def _said(name: str, gain: float) -> str:
    """What to add, and what it would bring."""
    what = {"engines": "a tenth more engines", "learner": "a learner a tenth faster", "staleness": "a bound one higher"}
    return f"{what[name]}: {gain:+.0%}" if gain > 0.005 else "nothing of a tenth more would help"
