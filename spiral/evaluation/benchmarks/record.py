"""A whole bench, from the words of a command line to the record of its results; what is asked is fixed in `plan.json`.

A directory belongs to one bench: its models, questions and sampling. Replies are kept as they come, so a bench that was
stopped goes on where it was, and one that is over only counts again.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from spiral.api.errors import RunError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.tasks import Task
from spiral.evaluation.benchmarks import results
from spiral.evaluation.benchmarks.asking import grade_again
from spiral.evaluation.benchmarks.benchmark import Benchmark, Chosen, load_benchmarks
from spiral.evaluation.benchmarks.models import BenchModel, ModelLoader
from spiral.evaluation.benchmarks.replies import Key, Reply, ReplyLog, in_order
from spiral.evaluation.benchmarks.results import Json, Scores
from spiral.evaluation.benchmarks.suites import Suite
from spiral.plugins.registry import Plugins
from spiral.runs.files import make_directory, write_atomic
from spiral.runs.lock import locked

PLAN, REPLIES, RECORD = "plan.json", "replies.jsonl", "bench.json"
"""The files of a bench's directory, beside its page."""

Tasks = Mapping[tuple[str, str], Task]
"""Benchmark and id -> the question."""


@dataclass(frozen=True)
class Bench:
    """What is asked, of whom, and where it is kept."""

    models: Sequence[BenchModel]
    benchmarks: Sequence[Chosen]
    seed: int
    out: Path
    suite: Suite | None = None
    """Of which the benchmarks are."""


def default_out(benchmarks: Sequence[Chosen], suite: Suite | None) -> Path:
    """A directory of its own for each time that a bench is run."""
    name = suite.name if suite else "-".join(one.plugin.name for one in benchmarks[:3])
    folder = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return Path("benches") / f"{folder}-{time.strftime('%Y%m%d-%H%M%S')}"


def run_bench(bench: Bench, plugins: Plugins, progress: Progress = no_progress) -> tuple[Json, list[Reply], Tasks]:
    """Ask what is not answered yet, and count; the record, all replies in order, and the questions.

    Raises SpiralError, before a model is loaded, for whatever cannot be asked, and for a directory of another bench.
    """
    progress(Phase("reading the questions"))
    benchmarks = load_benchmarks(bench.benchmarks, plugins)
    progress(Phase("identifying the models by their content"))
    plan = _plan(bench, benchmarks)
    started = time.time()
    with locked(bench.out, "being written", "--out"):
        _check_plan(bench.out, plan)
        log = ReplyLog(bench.out / REPLIES)
        known = log.read()
        tasks: Tasks = {(b.label, task.id): task for b in benchmarks for task in b.tasks}
        known |= _graded_again(known, tasks, log)
        loader = ModelLoader(plugins)
        try:
            for model in bench.models:
                known |= _ask(model, benchmarks, bench.seed, loader, log, known, progress)
        finally:
            loader.close()
        replies = in_order(known.values(), [m.name for m in bench.models], [b.label for b in benchmarks])
        record = {
            **results_of(bench, benchmarks, replies),
            "plan": plan,
            "versions": {"python": platform.python_version(), **dict(sorted(plugins.distributions.items()))},
            "seconds": round(time.time() - started, 1),
        }
        write_atomic(bench.out / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record, replies, tasks


def results_of(bench: Bench, benchmarks: Sequence[Benchmark], replies: Sequence[Reply]) -> Json:
    """Everything that is counted; the same replies give the same values."""
    names = [model.name for model in bench.models]
    sorted_out: dict[tuple[str, str], list[Reply]] = {(m, b.label): [] for m in names for b in benchmarks}
    for reply in replies:
        sorted_out[reply.model, reply.benchmark].append(reply)
    scores = {key: Scores.of(found) for key, found in sorted_out.items()}
    rows = [results.row(m, b, scores[m, b.label]) for b in benchmarks for m in names]
    differences = [
        found
        for b in benchmarks
        for m in names[1:]
        if (found := results.difference(scores[names[0], b.label], m, scores[m, b.label], b, bench.seed))
    ]
    return {
        "suite": bench.suite.name if bench.suite else "",
        "models": [{"name": m.name, "kind": m.ref.kind, "step": m.ref.step} for m in bench.models],
        "benchmarks": [
            {"label": b.label, "questions": len(b.tasks), **asdict(b.asking), "temperature": _temperature(b)}
            for b in benchmarks
        ],
        "seed": bench.seed,
        "rows": rows,
        "differences": differences,
        "means": results.means(names, benchmarks, scores),
        "notes": results.notes(rows, replies),
        "games": [
            {**asdict(game), "command": game.command(str(model.ref))}
            for model in bench.models
            for game in (bench.suite.games if bench.suite else ())
        ],
    }


def _ask(
    model: BenchModel,
    benchmarks: Sequence[Benchmark],
    seed: int,
    loader: ModelLoader,
    log: ReplyLog,
    known: Mapping[Key, Reply],
    progress: Progress,
) -> dict[Key, Reply]:
    """The replies that one model still owes, kept as they come."""
    wanted = {
        (model.name, b.label, task.id, s) for b in benchmarks for task in b.tasks for s in range(b.asking.samples)
    }
    if wanted <= known.keys():  # loading it would be for nothing
        return {}
    progress(Phase(f"loading {model.name}"))
    asker = loader.asker(model)
    questions = [question for b in benchmarks for question in asker.questions(b, known)]
    found: dict[Key, Reply] = {}
    for replies in asker.ask(questions, seed, progress):
        log.add(replies)
        found |= {reply.key: reply for reply in replies}
    return found


def _graded_again(known: Mapping[Key, Reply], tasks: Tasks, log: ReplyLog) -> dict[Key, Reply]:
    """Replies whose grader failed, graded once more: a grader that was mended needs no new replies."""
    found = grade_again(known.values(), lambda reply: tasks[reply.benchmark, reply.task])
    log.add(found)
    return {reply.key: reply for reply in found}


def _temperature(benchmark: Benchmark) -> float:
    return benchmark.asking.resolved_temperature


def _plan(bench: Bench, benchmarks: Sequence[Benchmark]) -> Json:
    """What the replies in a directory are replies to."""
    return {
        "models": {model.name: model.identity() for model in bench.models},
        "benchmarks": {
            b.label: {"content": b.content, **asdict(b.asking), "temperature": _temperature(b)} for b in benchmarks
        },
        "seed": bench.seed,
    }


def _check_plan(out: Path, plan: Json) -> None:
    """Keep the plan in an empty directory. Raises RunError for a directory that holds something else."""
    path = out / PLAN
    if not path.exists():
        if any(file for file in out.iterdir() if not file.name.startswith(".")):
            raise RunError(f"{out} holds something that is no bench; give another --out")
        make_directory(out)
        write_atomic(path, json.dumps(plan, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        change = _change(before, plan)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged, so its replies cannot be told apart; give another --out") from error
    if change:
        raise RunError(f"{out} holds another bench: {change}; give another --out, or ask for the same again")


def _change(before: Json, now: Json) -> str:
    """What differs between two plans, in words; empty where nothing does."""
    for kind in ("models", "benchmarks"):
        if list(before[kind]) != list(now[kind]):
            return f"its {kind} are {', '.join(before[kind])}, and {', '.join(now[kind])} are asked for"
        for name, asked in now[kind].items():
            for key, value in asked.items():
                if before[kind][name][key] != value:
                    return _changed(name, key, before[kind][name][key], value)
    return "" if before["seed"] == now["seed"] else f"its seed is {before['seed']}, and {now['seed']} is asked for"


def _changed(name: str, key: str, before: object, now: object) -> str:
    if key == "weights":
        return f"the weights of {name} were changed since"
    if key == "content":
        return f"the questions of {name} were changed since"
    return f"{name} was asked with {key} {before}, and {key} {now} is asked for"
