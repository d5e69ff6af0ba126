"""`spiral compare`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from spiral.api.errors import SpiralError
from spiral.commands.output import echo


@click.command(short_help="Draw runs and seeds over each other, with mean and spread.")
@click.argument("runs", nargs=-1, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="As metrics.jsonl names it; may be repeated.  [default: exact NashConv, else wins, else returns]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where it is kept.  [default: comparisons/TIME]")
def compare(runs: tuple[Path, ...], metrics: tuple[str, ...], out: Path | None) -> None:
    """Draw runs and seeds over each other: a page, and a PNG where matplotlib is installed.

    Runs whose configs differ in nothing but seed and loggers are a group, called by what tells it from the others.
    """
    from spiral.reports.comparison import chosen_metrics, grouped, read_run, spread
    from spiral.reports.comparison_figure import comparison_png
    from spiral.reports.html.comparison_page import comparison_page
    from spiral.runs.files import make_directory, write_atomic

    if not runs:
        raise SpiralError("no run was named; give the directories of one or more, such as runs/a runs/b")
    if len({path.resolve() for path in runs}) < len(runs):
        raise SpiralError("a run is named twice; name each once")
    read = [read_run(path) for path in runs]
    chosen = chosen_metrics(read, metrics)
    if not chosen:
        raise SpiralError("the runs have neither NashConv nor wins nor returns; name a --metric of their metrics.jsonl")
    groups = grouped(read)
    out = out or Path("comparisons") / time.strftime("%Y%m%d-%H%M%S")
    make_directory(out)
    write_atomic(out / "comparison.html", comparison_page(groups, chosen))
    for metric in chosen:
        echo(metric)
        for group in groups:
            curves = [run.curves[metric] for run in group.runs if metric in run.curves]
            last = spread(curves)[-1:]
            told = [f"{s.mean:.4f} [{s.low:.4f}, {s.high:.4f}] at step {s.step}" for s in last] or ["no common step"]
            echo(f"  {group.label}: {told[0]}, {len(curves)} of {len(group.runs)} runs")
    try:
        png = comparison_png(groups, chosen)
    except SpiralError as error:
        echo(f"no comparison.png: {error}", err=True)
    else:
        write_atomic(out / "comparison.png", png)
        echo(f"wrote {out / 'comparison.png'}")
    echo(f"open {out / 'comparison.html'}")
