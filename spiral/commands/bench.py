"""`spiral bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from spiral.commands.options import AS_JSON
from spiral.commands.output import echo, shown_progress

ASKING = ("temperature", "top_p", "max_new_tokens", "limit")
"""Options that say how questions are asked; what is not given a suite may say."""


@click.command(short_help="Benchmarks of questions, with intervals and paired differences.")
@click.argument("models", nargs=-1, required=True, metavar="POLICY...")
@click.option(
    "--tasks", multiple=True, metavar="NAMES", help="Benchmarks, NAME, NAME:key=value or NAME@k, joined by commas."
)
@click.option("--suite", metavar="NAME", help="Benchmarks with their sampling, by one name, such as spiral-paper.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    help="0 is greedy.  [default: 0 for one reply a question, 0.6 for several]",
)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Of the likeliest tokens.  [default: 1]")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    help="The longest reply.  [default: 2048, or half of the model's context]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N questions of each benchmark.")
@click.option("--seed", default=0, show_default=True, help="The same seed, the same replies.")
@click.option("--prompt", metavar="NAME", help="Another prompt format than each model's own, NAME or NAME:key=value.")
@click.option("--engine", metavar="NAME", help="Another engine, NAME or NAME:key=value.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where it is kept; the same again goes on there.  [default: benches/NAME-TIME]",
)
@AS_JSON
def bench(models: tuple[str, ...], suite: str | None, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Ask models the questions of benchmarks: accuracy with 95% intervals, pass@k, and differences to the first model.

    A POLICY is a run (runs/a, runs/a@300) or a saved model (model:PATH).
    """
    from rich.console import Console

    from spiral.config.loading import parse_plugin
    from spiral.evaluation.benchmarks.models import parse_models
    from spiral.evaluation.benchmarks.record import Bench, default_out, run_bench
    from spiral.evaluation.benchmarks.suites import chosen_of, suite_named
    from spiral.plugins.registry import Plugins
    from spiral.reports.bench import print_bench
    from spiral.reports.html.bench_page import bench_page
    from spiral.runs.files import write_atomic

    plugins = Plugins.installed()
    overrides = {kind: parse_plugin(asked[kind]) if asked[kind] else None for kind in ("prompt", "engine")}
    of_suite = suite_named(suite) if suite else None
    chosen = chosen_of(asked["tasks"], of_suite, **{key: asked[key] for key in ASKING})
    named = parse_models(models, plugins, **overrides)
    kept = out or default_out(chosen, of_suite)
    try:
        with shown_progress() as progress:
            record, replies, tasks = run_bench(Bench(named, chosen, asked["seed"], kept, of_suite), plugins, progress)
    except KeyboardInterrupt:
        echo(f"the replies so far are kept in {kept}; the same command with --out {kept} goes on", err=True)
        raise
    write_atomic(kept / "report.html", bench_page(record, replies, tasks))
    if as_json:
        echo(json.dumps(record, indent=1))
    else:
        print_bench(record, Console())
        echo(f"open {kept / 'report.html'}")
