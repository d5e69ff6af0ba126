"""Measures a recipe, one run a seed, and writes its figures: python -m tools.run_recipe NAME --seeds 0,1,2

The runs are those of the command line, each in a process of its own, one after another under runs/recipes. Figures go
to recipes/NAME/results.json and from there into the tables of the READMEs. Seeds that are not measured again keep
their figures. Without NAME no run is started and the tables alone are written again. A recipe that compares arms is
measured by a tool of its own, python -m tools.transfer or tools.dropout_tiny, and its tables are written here too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import dropout_table
from tools.transfer import table

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
BEGIN, END = "<!-- written by tools/run_recipe.py from results.json -->", "<!-- end of what is written -->"
NUM_POINTS = 13
"""Columns of a curve's table, at most, beside the first."""

BETTER = {"lower": "↓", "higher": "↑"}

Results = dict[str, Any]


def measure(name: str, seed: int, metrics: Sequence[str]) -> dict[str, Any]:
    """Train the recipe with one seed in a process of its own and read what it recorded."""
    run_dir = ROOT / "runs" / "recipes" / f"{name}-{seed}"
    words = ["train", f"recipes/{name}/config.yaml", f"seed={seed}", "--run-dir", str(run_dir)]
    env = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **os.environ}
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "spiral", *words], cwd=ROOT, env=env, check=True)
    wall_s = time.monotonic() - start
    return run_record(run_dir, seed, metrics, wall_s, datetime.date.today().isoformat(), commit())


def run_record(
    run_dir: Path, seed: int, metrics: Sequence[str], wall_s: float | None, date: str, commit: str | None
) -> dict[str, Any]:
    """One entry of `runs`: each metric's last value and its curve, read from the run's metrics.jsonl.

    Raises SystemExit where a metric was never recorded.
    """
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    curves: dict[str, dict[str, list[float]]] = {}
    for metric in metrics:
        points = [(line["step"], line[metric]) for line in lines if metric in line]
        if not points:
            raise SystemExit(f"{run_dir} recorded no {metric}; correct `metrics` of the recipe's results.json")
        if metric.startswith("eval/"):  # what is recorded at every step would be a thousand numbers
            curves[metric] = {"step": [s for s, _ in points], "value": [round(v, 6) for _, v in points]}
    values = {metric: next(round(line[metric], 6) for line in reversed(lines) if metric in line) for metric in metrics}
    return {
        "seed": seed,
        "date": date,
        "commit": commit,
        "wall_s": None if wall_s is None else round(wall_s, 1),
        "steps": lines[-1]["step"],
        "values": values,
        "curves": curves,
        "note": None,
    }


def with_runs(results: Results, runs: Sequence[Mapping[str, Any]]) -> Results:
    """`results` with these runs in place of those of the same seeds, and its summary computed again."""
    new = {run["seed"]: run for run in runs}
    kept = [run for run in results["runs"] if run["seed"] not in new]
    merged = sorted([*kept, *runs], key=lambda run: run["seed"])
    return {**results, "seeds": [run["seed"] for run in merged], "runs": merged, "summary": summary(results, merged)}


def summary(results: Results, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metric -> its median over seeds, its worst value, and the seed that has it; empty without a run."""
    found: dict[str, Any] = {}
    for metric, meaning in results["metrics"].items():
        by_seed = {run["seed"]: run["values"][metric] for run in runs}
        if not by_seed:
            continue
        worst = (max if meaning["better"] == "lower" else min)(by_seed, key=lambda seed: by_seed[seed])
        median = round(statistics.median(by_seed.values()), 6)
        found[metric] = {"median": median, "worst": by_seed[worst], "worst_seed": worst}
    return found


def figures(results: Results) -> str:
    """The tables of a README: last values by seed, then the curve of the first metric; or those of the arms."""
    if "arms" in results:
        return table.tables(results)
    if "schedules" in results:
        return dropout_table.tables(results)
    if not results["runs"]:
        return "Not measured."
    metrics, runs = results["metrics"], results["runs"]
    head = ["seed", *(f"{m['label']} {BETTER[m['better']]}" for m in metrics.values()), "minutes"]
    rows = [[str(run["seed"]), *(_number(run["values"][m]) for m in metrics), _minutes(run)] for run in runs]
    if len(runs) > 1:
        told = results["summary"]
        rows.append(["median", *(_number(told[m]["median"]) for m in metrics), ""])
        rows.append(["worst", *(_worst(told[m]) for m in metrics), ""])
    tables = [_table(head, rows)]
    first = next(iter(metrics))
    curves = {run["seed"]: run["curves"][first] for run in runs if first in run["curves"]}
    if curves:
        steps = _spread(next(iter(curves.values()))["step"])
        lines = []
        for seed, curve in curves.items():
            at = dict(zip(curve["step"], curve["value"], strict=True))
            lines.append([f"seed {seed}", *(_number(at[s]) if s in at else "" for s in steps)])
        tables.append(_table([f"{metrics[first]['label']} at step", *map(str, steps)], lines))
    return "\n\n".join(tables)


def overview(results: Sequence[Results]) -> str:
    """The table of recipes/README.md."""
    rows = []
    for one in results:
        name = one["recipe"]
        shows = (RECIPES / name / "README.md").read_text(encoding="utf-8").split("\n\n")[1].replace("\n", " ")
        rows.append([f"[{name}]({name}/README.md)", shows, _headline(one), _seeds(one["seeds"]), _typical(one)])
    return _table(["recipe", "what it shows", "measured", "seeds", "minutes a run"], rows)


def load_all() -> list[Results]:
    """Every recipe's results.json, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECIPES.glob("*/results.json"))]


def dump(results: Results) -> str:
    """JSON with a list of numbers on one line."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    return re.sub(r"\[\n[^\[\]{}\"]*\]", lambda m: f"[{' '.join(m[0][1:-1].split())}]", text) + "\n"


def filled(page: str, block: str) -> str:
    """`page` with the block between its two marks replaced."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{rest.split(END)[1]}"


def write_pages() -> None:
    """Write the tables of all READMEs again."""
    every = load_all()
    pages = {RECIPES / one["recipe"] / "README.md": figures(one) for one in every}
    pages |= {ROOT / one["page"]: figures(one) for one in every if "page" in one}
    for page, block in {**pages, RECIPES / "README.md": overview(every)}.items():
        page.write_text(filled(page.read_text(encoding="utf-8"), block), encoding="utf-8")


def _headline(results: Results) -> str:
    if not results["runs"]:
        return "not measured"
    if "arms" in results:
        return table.headline(results)
    if "schedules" in results:
        return dropout_table.headline(results)
    metric, meaning = next(iter(results["metrics"].items()))
    told = results["summary"][metric]
    if len(results["runs"]) == 1:
        return f"{meaning['label']}: {_number(told['median'])}"
    return f"{meaning['label']}: {_number(told['median'])} median, worst {_worst(told)}"


def _worst(told: Mapping[str, Any]) -> str:
    return f"**{_number(told['worst'])}** (seed {told['worst_seed']})"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds)) or "none"


def _typical(results: Results) -> str:
    walls = [run["wall_s"] for run in results["runs"] if run["wall_s"] is not None]
    return f"{statistics.median(walls) / 60:.1f}" if walls else ""


def _spread(steps: Sequence[int]) -> list[int]:
    """At most NUM_POINTS steps beside the first, evenly, the last among them."""
    stride = next(n for n in range(1, len(steps) + 1) if (len(steps) - 1) / n <= NUM_POINTS)
    return [steps[0], *sorted(steps[:0:-stride])]


def _minutes(run: Mapping[str, Any]) -> str:
    return "" if run["wall_s"] is None else f"{run['wall_s'] / 60:.1f}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, ["---"] * len(head), *rows))


def commit() -> str | None:
    """Of this tree; None outside of git."""
    words = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", choices=[one["recipe"] for one in load_all() if "metrics" in one])
    parser.add_argument("--seeds", default="0", help="seeds with commas between them (default: 0)")
    given = parser.parse_args()
    if given.name:
        path = RECIPES / given.name / "results.json"
        for seed in map(int, given.seeds.split(",")):
            results = json.loads(path.read_text(encoding="utf-8"))
            run = measure(given.name, seed, list(results["metrics"]))
            path.write_text(dump(with_runs(results, [run])), encoding="utf-8")  # each seed at once: a run is minutes
    write_pages()


if __name__ == "__main__":
    main()
