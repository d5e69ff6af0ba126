"""Speed of two checkouts of this repository, side by side: python -m tools.compare_trees OLD NEW [--repeat N].

Every measurement runs in a process of its own with one thread, in both trees at the same time and on the same core:
what else the machine does then slows both alike. On a busy machine runs one after the other differ by a third where
these differ by a hundredth. JSON lines: the figure in both trees and the ratio new / old of each repetition. Seconds
are CPU seconds: training runs in a process whose performance counter is its CPU clock, so that the times it logs of
its steps are CPU seconds too. Needs a system that can pin a process to a core, such as Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from perf.measure import Figure, say, spread

GAMES = ("kuhn_poker", "tic_tac_toe")
LEAN = ("evaluate.every=0", "loggers=[]")
"""Nothing but play and updates; keys that all commits have."""
CPU_CLOCK = (
    "import runpy, time; time.perf_counter = time.process_time; runpy.run_module('spiral', {}, '__main__', True)"
)
"""The program `python -m spiral`, which then measures itself by CPU time."""
COMMANDS = {"import spiral": ("-c", "import spiral"), "spiral --help": ("-m", "spiral", "--help")}
STARTUPS = 10
"""Starts a repetition, of which the fastest counts: what disturbs a process of a tenth of a second is as long as it."""
PARTS = ("step", "rollout", "learner")
"""Of a training step, by their names in the metrics."""
PACKAGES = ("games", "opponents", "advantages", "models")

Figures = dict[str, float]


class Tree:
    """A checkout, whose packages are imported instead of the installed ones."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path, self._scratch = path.resolve(), scratch.resolve()
        self._scratch.mkdir(parents=True, exist_ok=True)
        self.core = 0
        """The core that its processes run on."""
        if not (self.path / "spiral").is_dir():
            raise SystemExit(f"{path} is no checkout: it has no directory spiral")
        packages = [self.path, *(self.path / "plugins" / name for name in PACKAGES)]
        settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "SPIRAL_CACHE": str(self._scratch / "cache")}
        self._environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(map(str, packages))}

    def run(self, *arguments: str) -> tuple[float, str]:
        """CPU seconds and standard output of one `python ARGUMENTS` in the tree. Raises RuntimeError if it fails."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            command = [sys.executable, *arguments]
            process = subprocess.Popen(command, cwd=self.path, env=self._environment, stdout=output, stderr=errors)
            os.sched_setaffinity(process.pid, {self.core})
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            errors.seek(0)
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)} in {self.path} failed:\n{errors.read()[-2000:]}")
            return usage.ru_utime + usage.ru_stime, output.read()

    def startup(self) -> Figures:
        """CPU seconds until each of COMMANDS is done."""
        return {
            f"{name}, CPU s": min(self.run(*arguments)[0] for _ in range(STARTUPS))
            for name, arguments in COMMANDS.items()
        }

    def train(self, game: str, steps: int) -> Figures:
        """Speeds of `spiral train`; its warm start is in the tree's cache after the first run."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            run = Path(folder) / "run"
            words = [f"games={game}", f"steps={steps}", *LEAN]
            whole, _ = self.run("-c", CPU_CLOCK, "train", *words, "--run-dir", str(run))
            text = (run / "metrics.jsonl").read_text(encoding="utf-8")
        rows = [row for row in map(json.loads, text.splitlines()) if "time/step_s" in row]
        seconds = {part: statistics.median(row[f"time/{part}_s"] for row in rows) for part in PARTS}
        return {f"train {game}, CPU s a step, {part}": value for part, value in seconds.items()} | {
            f"train {game}, games a CPU s": statistics.median(row["speed/games_per_s"] for row in rows),
            f"train {game}, share of a step outside play and update": statistics.median(
                1 - (row["time/rollout_s"] + row["time/learner_s"]) / row["time/step_s"] for row in rows
            ),
            f"train {game}, CPU s of the command": whole,
        }

    def bench(self, name: str) -> Figures:
        """The figures of one bench of the tree, with those of the details that are speeds."""
        package = "perf" if (self.path / "perf").is_dir() else "bench"  # its name in earlier commits
        _, output = self.run("-m", package, name)
        figures: Figures = {}
        for line in map(json.loads, output.splitlines()):
            figures[f"{line['name']}, {line['unit']}"] = line["value"]
            detail = line["detail"]
            if "framework_us_a_turn" in detail:
                figures[f"{line['name']}, framework us a turn"] = detail["framework_us_a_turn"]
                figures[f"{line['name']}, tokens per CPU s"] = detail["tokens_per_cpu_s"]["self_play"]
        return figures


def compare(old: Tree, new: Tree, measure: Callable[[Tree], Figures], repeat: int) -> Iterator[Figure]:
    """One figure for every name that both trees measured: the median ratio new / old, and all three spreads."""
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    cores = sorted(os.sched_getaffinity(0))
    for repetition in range(repeat):
        old.core = new.core = cores[repetition % len(cores)]
        with ThreadPoolExecutor(2) as threads:
            before, after = threads.map(measure, (old, new))
        for name, value in before.items():
            if name in after:
                values[name].append((value, after[name]))
    for name, pairs in values.items():
        ratios = spread(b / a for a, b in pairs)
        detail = {"old": spread(a for a, _ in pairs), "new": spread(b for _, b in pairs), "ratio": ratios}
        yield Figure(name, ratios["median"], "new / old", detail=detail)


def main(words: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--repeat", type=int, default=3, help="times that everything is measured in both trees")
    parser.add_argument("--steps", type=int, default=20, help="of a training run")
    parser.add_argument("--scratch", type=Path, help="a directory that keeps the warm starts for the next call")
    parser.add_argument("--skip-runs", action="store_true", help="no training runs")
    parser.add_argument("--bench", nargs="*", default=[], metavar="NAME", help="benches of both trees, such as R1")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.scratch or Path(temporary)
        trees = [Tree(path, scratch / name) for name, path in (("old", options.old), ("new", options.new))]
        measures: list[Callable[[Tree], Figures]] = [Tree.startup]
        for game in () if options.skip_runs else GAMES:
            for tree in trees:
                tree.train(game, 2)  # the warm start
            measures.append(lambda tree, game=game: tree.train(game, options.steps))  # type: ignore[misc]
        measures += [lambda tree, name=name: tree.bench(name) for name in options.bench]  # type: ignore[misc]
        for measure in measures:
            for figure in compare(trees[0], trees[1], measure, options.repeat):
                print(figure.line(), flush=True)
                say(f"   {figure.name:<60} x{figure.value:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
