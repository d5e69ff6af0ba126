"""`spiral patterns`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from spiral.api.errors import SpiralError
from spiral.commands.options import AS_JSON
from spiral.commands.output import echo, shown_progress


@click.command(short_help="Patterns of reasoning in a run's games and a bench's replies.")
@click.argument("sources", nargs=-1, required=True, metavar="RUN|BENCH...")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    required=True,
    metavar="URL",
    help="An OpenAI-compatible server, or a bot that answers chats, NAME:key=value; twice for two judges.",
)
@click.option("--judge-model", metavar="NAME", help="The model, where --judge is a URL.")
@click.option(
    "--rubric",
    "rubrics",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Patterns of your own, in YAML, beside the paper's three; may be repeated.",
)
@click.option("--own-only", is_flag=True, help="Only the patterns of --rubric, without the paper's.")
@click.option(
    "--num",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Traces of each stage of training, and game or benchmark.",
)
@click.option(
    "--stages",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Equal stretches of training that are told apart.",
)
@click.option(
    "--max-chars",
    type=click.IntRange(min=200),
    default=24_000,
    show_default=True,
    metavar="N",
    help="Characters of a trace that a judge sees; of a longer one both ends.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed, the same traces.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where it is kept; the same again goes on there.  [default: patterns/NAMES]",
)
@AS_JSON
def patterns(
    sources: tuple[str, ...], judges: tuple[str, ...], rubrics: tuple[Path, ...], out: Path | None, as_json: bool,
    **asked: Any,
) -> None:  # fmt: skip
    """Which patterns of reasoning traces show: judged by a chat model in two wordings, or by two models, which see the
    text alone.

    A RUN is a run's directory, whose games are judged; a BENCH is a bench's directory, or the bench.json in
    it, whose replies are judged.
    """
    from rich.console import Console

    from spiral.evaluation.patterns.record import Analysis, default_out, run_analysis
    from spiral.plugins.registry import Plugins
    from spiral.reports.html.patterns_page import patterns_page
    from spiral.reports.patterns import print_patterns
    from spiral.runs.files import write_atomic

    kept = out or default_out(sources)
    analysis = Analysis(sources, judges, kept, rubrics=rubrics, **asked)
    try:
        with shown_progress() as progress:
            record, traces = run_analysis(analysis, Plugins.installed(), progress)
    except KeyboardInterrupt:
        echo("every verdict that had come is kept; the same command asks for the others alone", err=True)
        raise
    write_atomic(kept / "report.html", patterns_page(record, traces))
    if as_json:
        echo(json.dumps(record, indent=1))
    else:
        print_patterns(record, Console())
        echo(f"open {kept / 'report.html'}")
    if record["stopped"]:
        raise SpiralError(
            f"{record['stopped']}; what was judged by then is in {kept}, and the same command goes on there"
        )
