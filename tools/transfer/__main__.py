"""Runs the comparison and writes its tables: python -m tools.transfer --seeds 0,1,2

Everything lies under runs/transfer, one folder a seed. The same command goes on after a kill; what is finished is not
done again. Without --seeds the tables alone are written again, from recipes/transfer/results.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spiral.runs.files import write_atomic
from tools.run_recipe import ROOT, commit, write_pages
from tools.transfer.arms import ALONE, Json, Seed, record
from tools.transfer.experiment import RECIPE, TRANSFER, Arm, Experiment
from tools.transfer.processes import Teller, run_spiral, stop_all
from tools.transfer.results import keep
from tools.transfer.strength import strength
from tools.transfer.table import tables


def measured(experiment: Experiment, number: int, folder: Path) -> Json:
    """One seed, from nothing or from where it was, to its entry of `runs`."""
    with Teller(number) as tell:
        seed = Seed(
            experiment, number, folder / f"seed-{number}",
            lambda words, log, told: run_spiral(words, log, told, tell), tell,
        )  # fmt: skip
        seed.folder.mkdir(parents=True, exist_ok=True)
        took = seed.train()
        seed.answers()
        strengths = {arm.name: _strength(seed, arm, tell) for arm in (experiment.start, *experiment.arms)}
        return {
            "seed": number,
            "date": datetime.date.today().isoformat(),
            "commit": commit(),
            "wall_s": round(sum(one.seconds for one in took.values()), 1),
            "arms": record(seed, took, strengths),
        }


def _strength(seed: Seed, arm: Arm, tell: Callable[[str], None]) -> Json:
    """Measured once for each model, and kept beside its run."""
    model = seed.model(arm)
    kept = seed.folder / f"{arm.name}-{model.parent.name}.json"
    if not kept.exists():
        with ALONE:
            found = strength(seed.config, model, lambda what: tell(f"{arm.name}: {what}"))
        write_atomic(kept, json.dumps(found, indent=1) + "\n")
    told: Json = json.loads(kept.read_text(encoding="utf-8"))
    return told


def _stop(*_: object) -> None:
    """Of SIGTERM: without this the commands would go on after this process."""
    stop_all()
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="", help="seeds with commas between them; without, tables alone")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time (default: 2)")
    given = parser.parse_args()
    seeds = [int(word) for word in given.seeds.split(",") if word]
    folder, path = ROOT / "runs" / "transfer", RECIPE / "results.json"
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("TQDM_DISABLE", "1")  # models that are read from folders would draw bars
    with ThreadPoolExecutor(max_workers=given.jobs) as pool:
        for run in pool.map(lambda number: measured(TRANSFER, number, folder), seeds):
            keep(path, TRANSFER, [run])  # each seed at once: it took minutes
    write_pages()
    print(tables(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
