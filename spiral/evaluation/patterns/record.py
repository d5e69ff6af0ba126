"""A whole analysis, from the words of a command line to its record: traces sampled, judged, counted and kept."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spiral.api.errors import RunError, SpiralError
from spiral.api.policies import KeepsFiles
from spiral.api.progress import Phase, Progress, no_progress
from spiral.evaluation.patterns import results
from spiral.evaluation.patterns.judges import Judge, Judged, NoVerdict, Reading, judge_traces, parse_judge
from spiral.evaluation.patterns.prompts import WORDINGS, Question, Verdict, cut
from spiral.evaluation.patterns.results import Json, JudgedTrace
from spiral.evaluation.patterns.rubric import Pattern, read_rubrics
from spiral.evaluation.patterns.sources import Sampled, sample_traces
from spiral.evaluation.patterns.verdicts import VerdictStore
from spiral.plugins.registry import Plugins
from spiral.runs.files import cache_folder, make_directory, write_atomic
from spiral.runs.lock import locked

RECORD, TRACES, SPENDING = "patterns.json", "traces.jsonl", "judges"
"""The files of an analysis beside its page, and the folder of what its judges spent."""
DEFAULT_JUDGE = Path(__file__).with_name("judge.yaml")


@dataclass(frozen=True)
class Analysis:
    """What is asked for."""

    sources: Sequence[str]
    judges: Sequence[str]
    out: Path
    judge_model: str | None = None
    rubrics: tuple[Path, ...] = ()
    own_only: bool = False
    """Whether the paper's patterns are left out."""
    num: int = 20
    """Traces of each policy, stage, and game or benchmark."""
    stages: int = 3
    max_chars: int = 24_000
    """Characters of a trace that a judge sees."""
    seed: int = 0


def default_out(sources: Sequence[str]) -> Path:
    """A directory of the sources' names: the same command goes on in the same one, and with the same budget."""
    names = [Path(word).parent.name if word.endswith(".json") else Path(word).name for word in sources]
    return Path("patterns") / (re.sub(r"[^A-Za-z0-9_.+-]+", "-", "+".join(names)).strip("-.")[:100] or "traces")


def run_analysis(analysis: Analysis, plugins: Plugins, progress: Progress = no_progress) -> tuple[Json, list[Json]]:
    """Judge what is not judged yet, and count; the record, and its traces with their verdicts.

    A judge that can go on no longer leaves a partial result, and `stopped` in the record says why. Raises SpiralError,
    before a judge is asked, for whatever cannot be done.
    """
    rubric = read_rubrics(analysis.rubrics, analysis.own_only)
    readings = _readings(analysis, rubric, plugins)
    progress(Phase("reading traces"))
    sampled = sample_traces(analysis.sources, analysis.num, analysis.stages, analysis.seed)
    started = time.time()
    _check_out(analysis.out)
    with locked(analysis.out, "being written", "--out"):
        for judge in {id(r.judge): r.judge for r in readings}.values():
            if isinstance(judge.model, KeepsFiles):
                judge.model.keep_in(analysis.out / SPENDING)
        store = VerdictStore(cache_folder("verdicts"))
        texts = [cut(trace.text, analysis.max_chars) for trace in sampled.traces]
        found = judge_traces(texts, readings, store, analysis.seed, progress)
        judged = [
            JudgedTrace(
                trace,
                None if trace.step is None else sampled.stages[trace.policy].index(trace.step),
                [found.verdicts.get((number, k)) for k in range(len(readings))],
            )
            for number, trace in enumerate(sampled.traces)
        ]
        record = _record(analysis, rubric, readings, sampled, found, judged)
        record |= {"seconds": round(time.time() - started, 1), "versions": dict(sorted(plugins.distributions.items()))}
        traces = [_kept(one) for one in judged]
        write_atomic(analysis.out / TRACES, "".join(json.dumps(one) + "\n" for one in traces))
        write_atomic(analysis.out / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record, traces


def _readings(analysis: Analysis, rubric: Sequence[Pattern], plugins: Plugins) -> list[Reading]:
    """One judge with both wordings, or two judges with the first one: where two judges differ, it is not the words."""
    if not 1 <= len(analysis.judges) <= 2:
        raise SpiralError(f"{len(analysis.judges)} judges were named; give --judge once, or twice for two judges")
    chosen = [parse_judge(word, analysis.judge_model, DEFAULT_JUDGE) for word in analysis.judges]
    judges = [Judge.made(plugin, plugins) for plugin in chosen]
    if len(judges) == 1:
        return [Reading(judges[0], Question.worded(wording, rubric)) for wording in WORDINGS]
    if judges[0].model.identity == judges[1].model.identity:
        raise SpiralError(
            f"both --judge are {judges[0].name}, whose answers would be the same; name it once, and it is asked in two "
            "wordings"
        )
    return [Reading(judge, Question.worded(WORDINGS[0], rubric)) for judge in judges]


def _check_out(out: Path) -> None:
    """Raises RunError for a directory that holds something else."""
    own = (out / RECORD).exists() or (out / SPENDING).is_dir()  # an analysis that was killed has no record yet
    if out.exists() and not own and (not out.is_dir() or any(out.glob("[!.]*"))):
        raise RunError(f"{out} holds something that is no analysis of patterns; give another --out")
    make_directory(out)


def _record(
    analysis: Analysis,
    rubric: Sequence[Pattern],
    readings: Sequence[Reading],
    sampled: Sampled,
    found: Judged,
    judged: Sequence[JudgedTrace],
) -> Json:
    names = [pattern.name for pattern in rubric]
    whole = sum(one.whole is not None for one in judged)
    long = sum(len(trace.text) > analysis.max_chars for trace in sampled.traces)
    return {
        "sources": list(analysis.sources),
        "seed": analysis.seed,
        "num": analysis.num,
        "max_chars": analysis.max_chars,
        "rubric": [asdict(pattern) for pattern in rubric],
        "readings": [
            {
                "judge": reading.judge.name,
                "wording": reading.question.wording,
                "without_verdict": results.without_verdict(judged, k),
            }
            for k, reading in enumerate(readings)
        ],
        "spent": [
            {"judge": judge.name, **judge.model.spent} for judge in {id(r.judge): r.judge for r in readings}.values()
        ],
        "traces": len(judged),
        "judged": whole,
        "cut": long,
        "stopped": found.stopped,
        "notes": _notes(analysis, sampled, found, judged, whole, long),
        "agreement": results.agreements(judged, names, analysis.seed),
        "cells": results.cells(judged, names, sampled.stages),
        "transfer": results.transfer(judged, names, sampled.stages),
        "changes": results.changes(judged, names, sampled.stages),
    }


def _notes(
    analysis: Analysis, sampled: Sampled, found: Judged, judged: Sequence[JudgedTrace], whole: int, long: int
) -> list[str]:
    """What a reader of the figures must know."""
    notes = []
    if found.stopped:
        notes.append(f"partial result, {whole} of {len(judged)} traces: {found.stopped}")
    missing = Counter(v.cause for one in judged for v in one.verdicts if isinstance(v, NoVerdict))
    if missing:
        told = ", ".join(f"{cause} {times}" for cause, times in missing.most_common())
        notes.append(f"no verdict {sum(missing.values())} times ({told}); those traces are left out of every share")
    if long:
        some = "1 trace has" if long == 1 else f"{long} traces have"
        notes.append(f"{some} more than {analysis.max_chars:,} characters, of which a judge saw both ends")
    if sampled.unreadable:
        notes.append(f"lines of the logs that are cut off or damaged, and were left out: {sampled.unreadable}")
    domains = {one.trace.domain for one in judged}
    if len(domains) == 1:
        lacking = "a bench of the same run" if domains == {"game"} else "the run itself"
        notes.append(f"all traces are of {domains.pop()}s; name {lacking} as well to compare games with tasks")
    return notes


def _kept(one: JudgedTrace) -> dict[str, Any]:
    verdicts = [
        {"shown": v.shown, "reasons": v.reasons}
        if isinstance(v, Verdict)
        else {"problem": "not asked" if v is None else f"{v.cause}: {v.detail}"}
        for v in one.verdicts
    ]
    return {**asdict(one.trace), "stage": one.stage, "verdicts": verdicts}
