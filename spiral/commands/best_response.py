"""`spiral best-response`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from spiral.api.errors import Stopped
from spiral.commands.options import AS_JSON, GAME
from spiral.commands.output import echo, shown_progress


@click.command("best-response", short_help="Train a best responder: the NashConv it proves.")
@click.argument("run", metavar="RUN[@STEP]")
@click.argument("overrides", nargs=-1, metavar="[key=value ...]")
@GAME
@click.option("--steps", type=click.IntRange(min=1), help="Learner updates, as steps=N.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Where it is kept.  [default: runs/best-response-GAME-TIME]"
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --run-dir, or measure it again.")
@click.option(
    "--games", "num_games", type=click.IntRange(min=2), default=2000, show_default=True, help="Games as each player."
)
@AS_JSON
def best_response(
    run: str,
    overrides: tuple[str, ...],
    game: str | None,
    steps: int | None,
    run_dir: Path | None,
    resume: bool,
    num_games: int,
    as_json: bool,
) -> None:
    """Train a best responder to a run's policy: the NashConv that it proves, for a game of any size."""
    from spiral.evaluation.learned_best_response import Target, configure, measure
    from spiral.plugins.registry import Plugins
    from spiral.selfplay.validation import check
    from spiral.training import launch

    plugins = Plugins.installed()
    words = [*overrides, *([f"steps={steps}"] if steps else [])]
    if resume:
        kept, config = launch.resumed_run(run_dir, None, words)
        Target.in_config(config).check_resumed(run, game, config)
        check(config, plugins)
    else:
        config, problems = configure(Target.of(run), game, words, plugins)
        check(config, plugins, problems)
        kept = launch.new_run(run_dir, config, "best-response-")
    out = sys.stderr if as_json else sys.stdout
    launch.run_training(config, kept, plugins, resume, f"best-response {run}", out)
    if launch.rank() > 0:
        return
    try:
        with shown_progress() as progress:
            record = measure(kept.path, num_games, progress)
    except KeyboardInterrupt:
        command = f"spiral best-response {run} --run-dir {kept.path} --resume"
        raise Stopped(f"stopped; measure with: {command}", signal.SIGINT) from None
    if as_json:
        echo(json.dumps(record, indent=2))
        return
    for line in _bound(record):
        echo(line)
    echo(f"open {kept.path / 'report.html'}")


def _bound(record: dict[str, Any]) -> Iterator[str]:
    yield f"{record['game']}: {record['frozen']} against its learned best response {record['responder']}"
    for row in record["players"]:
        yield (
            f"  player {row['player']}: the best response (step {row['checkpoint']}) gets "
            f"{row['mean_return']:+.4f} [{row['return_low']:+.4f}, {row['return_high']:+.4f}], the frozen policy there "
            f"{row['frozen_return']:+.4f}; gain {row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]  "
            f"({record['games']} games)"
        )
    yield f"  NashConv is at least {record['lower_95']:.4f} (95% confidence; estimate {record['bound']:.4f})"
    if record["lower_95_any_returns"] is not None:
        yield f"  for any distribution of returns: at least {record['lower_95_any_returns']:.4f}"
    if record["lower_95"] <= 0:
        yield "  that proves nothing, since NashConv is never below 0: train longer, or play more --games"
    if record["exact"] is not None:
        yield f"  exact NashConv: {record['exact']:.4f}"
    if record["illegal"]:
        yield f"  {record['illegal']} games ended by an illegal move; they count here, and not in an exact NashConv"
    if record["cut"]:
        yield f"  {record['cut']} games were cut at rollout.max_turns: the bound is that of the game so cut"
