"""recipes/transfer/results.json: what was compared, and what each seed's arms came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from spiral.config.loading import load
from spiral.plugins.registry import label
from tools.run_recipe import dump
from tools.transfer.experiment import Experiment
from tools.transfer.table import Json, summary


def frame(experiment: Experiment) -> Json:
    """What was compared: all but the runs. The first arm is the common start."""
    config, arms = load(experiment.config), (experiment.start, *experiment.arms)
    return {
        "recipe": experiment.config.parent.name,
        "command": "python -m tools.transfer --seeds SEEDS",
        "page": "docs/guides/transfer.md",
        "budget_tokens": experiment.budget_tokens,
        "arms": {arm.name: arm.label for arm in arms},
        "tasks": {
            label(task.name, task.args): {
                "label": task.name.rpartition("/")[2].replace("_", " "),
                "samples": task.samples,
                "trains": [arm.name for arm in experiment.arms if task.name in arm.tasks],
            }
            for task in config.evaluate.tasks
        },
    }


def with_runs(results: Json, experiment: Experiment, runs: Sequence[Json]) -> Json:
    """`results` with these runs in place of those of the same seeds, and its summary computed again."""
    new = {run["seed"]: run for run in runs}
    kept = [run for run in results["runs"] if run["seed"] not in new]
    merged = sorted([*kept, *runs], key=lambda run: int(run["seed"]))
    start = experiment.start.name
    games = list(merged[0]["arms"][start]["games"]) if merged else []
    told = {**frame(experiment), "games": games, "seeds": [run["seed"] for run in merged], "runs": merged}
    return {**told, "summary": rounded(summary(told)), "note": results["note"]}


def keep(path: Path, experiment: Experiment, runs: Sequence[Json]) -> None:
    """Write them into the file at `path`."""
    path.write_text(dump(with_runs(json.loads(path.read_text(encoding="utf-8")), experiment, runs)), encoding="utf-8")


def rounded(value: object) -> object:
    """JSON values with six places."""
    if isinstance(value, dict):
        return {key: rounded(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inside) for inside in value]
    return round(value, 6) if isinstance(value, float) else value
