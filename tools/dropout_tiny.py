"""Measures recipes/dropout_tiny, dropout schedules in two regimes: python -m tools.dropout_tiny --seeds 0,1,2

Every seed trains one model for each schedule and regime, all from the same weights and on the same rows in the same
order, one after another in this process. What is measured goes to recipes/dropout_tiny/results.json, seed by seed; a
seed that stands there is not measured again. The text is that of python -m tools.collect_text runs/text.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spiral
from tools import dropout_table, run_recipe

RECIPE = run_recipe.RECIPES / "dropout_tiny"
NUM_LAST = 10
"""Steps at the end whose mean loss is told as that of training."""


def measure(seed: int, regime: str, schedule: str) -> dict[str, float]:
    """One run: bits per byte of the text held out at the end and at best, and of the last steps' own text."""
    folder = run_recipe.ROOT / "runs" / "recipes" / f"dropout_tiny-{regime}-{schedule}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # of a measurement that was killed
    words: dict[str, Any] = {
        **dropout_table.REGIMES[regime],
        "learner.dropout": dropout_table.SCHEDULES[schedule],
        "seed": seed,
    }
    words |= {"checkpoint.every": 10**6, "loggers": []}
    run = spiral.train(RECIPE / "config.yaml", run_dir=folder, quiet=True, **words)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    bits = [line["eval/bits_per_byte"] for line in lines if "eval/bits_per_byte" in line]
    trained = [line["learner/nll"] / math.log(2) for line in lines if "learner/nll" in line]
    return {
        "bits_per_byte": round(bits[-1], 4),
        "best": round(min(bits), 4),
        "trained": round(statistics.mean(trained[-NUM_LAST:]), 4),
    }


def measured_seed(seed: int) -> dict[str, Any]:
    """An entry of `runs`."""
    start = time.monotonic()
    found = {
        regime: {schedule: measure(seed, regime, schedule) for schedule in dropout_table.SCHEDULES}
        for regime in dropout_table.REGIMES
    }
    num = len(dropout_table.REGIMES) * len(dropout_table.SCHEDULES)
    return {
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "commit": run_recipe.commit(),
        "wall_s": round((time.monotonic() - start) / num, 1),
        "regimes": found,
    }


def main(words: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2", help="seeds with commas between them (default: 0,1,2)")
    given = parser.parse_args(words)
    path = Path(RECIPE) / "results.json"
    for seed in map(int, given.seeds.split(",")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if seed not in results["seeds"]:
            runs = sorted([*results["runs"], measured_seed(seed)], key=lambda run: run["seed"])
            results |= {"runs": runs, "seeds": [run["seed"] for run in runs]}
            results["summary"] = dropout_table.summary(results)
            path.write_text(run_recipe.dump(results), encoding="utf-8")
    run_recipe.write_pages()


if __name__ == "__main__":
    main()
