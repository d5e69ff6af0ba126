"""Runs the arms of one seed, each to its budget, and measures them; what is finished is not done again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spiral.config.loading import load
from spiral.config.schema import Config
from spiral.evaluation.benchmarks.replies import ReplyLog
from spiral.plugins.registry import label
from spiral.runs.directory import RunDir
from tools.transfer.budget import Spent, next_steps, spent
from tools.transfer.examples import experts_file, start_file
from tools.transfer.experiment import Arm, Experiment

Json = dict[str, Any]
ALONE = threading.Lock()
"""Held by the one seed that computes in this process; the commands run in processes of their own."""
Spiral = Callable[[Sequence[str], Path, Callable[[], str]], None]
"""Runs the command line with these words, its output into a file, and now and then tells what a function says."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Seed:
    """One seed's share of a comparison."""

    experiment: Experiment
    seed: int
    folder: Path
    """Of this seed alone."""
    spiral: Spiral
    tell: Tell

    @property
    def config(self) -> Config:
        return load(self.experiment.config)

    @property
    def games(self) -> dict[str, str]:
        """Label -> name."""
        return {label(game.name, game.args): game.name for game in self.config.games}

    @property
    def benchmarks(self) -> dict[str, str]:
        """Label -> the word of the command line that asks it."""
        labels = [(label(task.name, task.args), task.samples) for task in self.config.evaluate.tasks]
        return {name: f"{name}@{samples}" if samples > 1 else name for name, samples in labels}

    def run_dir(self, arm: Arm) -> Path:
        return self.folder / arm.name

    def model(self, arm: Arm) -> Path:
        """The weights of an arm that is finished: the averaged ones, where it keeps an average."""
        return RunDir(self.run_dir(arm)).checkpoint_paths()[-1] / "model"

    def train(self) -> dict[str, Spent]:
        """All arms, and before them their common start: name -> what it took."""
        start = self.experiment.start
        done = {start.name: self._train(start, self._start_words, self._start_steps)}
        for arm in self.experiment.arms:
            done[arm.name] = self._train(arm, partial(self._arm_words, arm), self._arm_steps)
        return done

    def answers(self) -> dict[str, dict[str, str]]:
        """Arm -> benchmark -> a digit a question: how many of its replies were right. All arms in one bench."""
        arms = (self.experiment.start, *self.experiment.arms)
        out = self.folder / "-".join(["bench", *(str(spent(self.run_dir(arm)).steps) for arm in arms)])
        limit = str(self.config.rollout.max_new_tokens)
        words = ["bench", *(str(self.run_dir(arm)) for arm in arms), "--tasks", ",".join(self.benchmarks.values())]
        words += ["--max-new-tokens", limit, "--out", str(out)]
        replies = out / "replies.jsonl"
        if not (out / "bench.json").exists():
            self.spiral(words, self.folder / "bench.log", lambda: f"bench: {_lines(replies):,} replies")
        names = [row["name"] for row in json.loads((out / "bench.json").read_text(encoding="utf-8"))["models"]]
        counted: dict[tuple[str, str], dict[str, int]] = {}
        for reply in ReplyLog(replies).read().values():
            of = counted.setdefault((reply.model, reply.benchmark), {})
            of[reply.task] = of.get(reply.task, 0) + reply.right
        return {
            arm.name: {b: "".join(str(n) for _, n in sorted(counted[name, b].items())) for b in self.benchmarks}
            for arm, name in zip(arms, names, strict=True)
        }

    def _train(self, arm: Arm, words: Callable[[], list[str]], wanted: Callable[[Spent], int | None]) -> Spent:
        """`words` are asked for once, for the command that begins the run: some take games that are collected first."""
        run_dir, now = self.run_dir(arm), spent(self.run_dir(arm))
        while (steps := wanted(now)) is not None:
            if (run_dir / "config.yaml").exists():
                command = ["train", f"steps={steps}", "--run-dir", str(run_dir), "--resume"]
            else:
                command = ["train", str(self.experiment.config), *words(), f"steps={steps}", "--run-dir", str(run_dir)]
            metrics = run_dir / "metrics.jsonl"
            self.spiral(
                command,
                self.folder / f"{arm.name}.log",
                partial(_far, arm.name, metrics, steps),
            )
            now = spent(run_dir)
        self.tell(f"{arm.name}: {now.steps:,} steps, {now.tokens:,} tokens, {now.seconds:.0f} s")
        return now

    def _start_steps(self, now: Spent) -> int | None:
        return None if now.steps >= self.experiment.start_steps else self.experiment.start_steps

    def _arm_steps(self, now: Spent) -> int | None:
        return next_steps(now, self.experiment.budget_tokens, self.experiment.first_steps)

    def _start_words(self) -> list[str]:
        e = self.experiment
        self.tell("collecting random play and right answers")
        with ALONE:
            path = start_file(e, self.games, self.seed, self.folder)
        tasks = [{"name": f"tasks/{name}", "args": dict(args)} for name, args in e.questions.items()]
        return [*self._words(e.start), f"examples.path={path}", f"games={json.dumps([*self._game_entries(), *tasks])}"]

    def _arm_words(self, arm: Arm) -> list[str]:
        e, words = self.experiment, self._words(arm)
        words += [f"model={self.model(e.start)}", "warm_start.max_steps=0"]
        if arm.reads == "experts":
            self.tell("collecting the experts' games")
            with ALONE:
                words.append(f"examples.path={experts_file(e, self.games, self.seed, self.folder)}")
        if arm.tasks:
            tasks = [{"name": f"tasks/{name}", "args": dict(e.questions[name])} for name in arm.tasks]
            words += [f"games={json.dumps(tasks)}", "evaluate.opponents=[]"]
        if arm.against_experts:
            members = [{"policy": e.experts[name], "games": [game]} for game, name in self.games.items()]
            words += [f"pool.members={json.dumps(members)}", "opponents=mixture", "opponents.args.weights.members=1"]
        return words

    def _words(self, arm: Arm) -> list[str]:
        return [*arm.words, f"seed={self.seed}"]

    def _game_entries(self) -> list[Json]:
        return [{"name": game.name, "args": dict(game.args)} for game in self.config.games]


def record(seed: Seed, took: Mapping[str, Spent], strengths: Mapping[str, Json]) -> dict[str, Json]:
    """Arm -> what is known of it, as results.json keeps it."""
    answers = seed.answers()
    return {
        name: {
            "steps": one.steps, "tokens": one.tokens, "train_s": round(one.seconds, 1), "right": answers[name],
            "games": strengths[name],
        }
        for name, one in took.items()
    }  # fmt: skip


def _far(name: str, metrics: Path, steps: int) -> str:
    return f"{name}: step {_lines(metrics):,} of {steps:,} for now"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
