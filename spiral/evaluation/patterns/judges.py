"""Asks judges about traces: each in threads of its own, until all are judged, or a judge can go on no longer."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spiral.api.errors import SpiralError
from spiral.api.policies import ChatModel, Unavailable, max_concurrent
from spiral.api.progress import Phase, Progress, no_progress
from spiral.config.loading import parse_plugin
from spiral.config.schema import PluginConfig
from spiral.evaluation.patterns.prompts import Nonsense, Question, Verdict
from spiral.evaluation.patterns.verdicts import VerdictStore
from spiral.plugins.faults import blamed
from spiral.plugins.registry import Plugins, label
from spiral.seeds import derive

ASKS = 2
"""How often a judge is asked about one trace, if its answers are nonsense."""
FAILURES_IN_A_ROW = 10
"""Traces without a verdict, one after another, after which a judge is asked no more."""


@dataclass(frozen=True)
class Judge:
    """A chat model that judges traces."""

    name: str
    model: ChatModel

    @classmethod
    def made(cls, plugin: PluginConfig, plugins: Plugins) -> Judge:
        """Raises SpiralError for a plug-in that cannot be made, or that answers no chat."""
        model = plugins.make("bot", plugin.name, **plugin.args)
        name = label(plugin.name, plugin.args)
        if not isinstance(model, ChatModel):
            raise SpiralError(
                f"--judge {name} is a bot that plays and answers no chat; give the URL of an OpenAI-compatible server"
            )
        return cls(name, model)


@dataclass(frozen=True)
class Reading:
    """One judge with one wording of the rubric; every trace has one verdict of each reading."""

    judge: Judge
    question: Question


@dataclass(frozen=True)
class NoVerdict:
    """Why a trace has none."""

    cause: str
    detail: str


@dataclass(frozen=True)
class Judged:
    """What the readings gave."""

    verdicts: dict[tuple[int, int], Verdict | NoVerdict]
    """By trace and reading; those that are missing were not asked for any more."""
    num_kept: int
    """Verdicts that were there already and cost nothing."""
    stopped: str
    """Why not all traces were judged, as a sentence; empty if they were."""


@dataclass(frozen=True)
class _Work:
    """One verdict that is wanted, for all traces of the same text."""

    reading: int
    key: str
    messages: list[dict[str, str]]
    places: list[tuple[int, int]]


def parse_judge(word: str, model: str | None, default: Path) -> PluginConfig:
    """What `--judge` names: a URL, asked for `model` by the bot that the file `default` names, or any bot's text.

    Raises SpiralError."""
    if not word.startswith(("http://", "https://")):
        return parse_plugin(word)
    if not model:
        raise SpiralError(f"--judge {word} names a server and no model; give --judge-model NAME as the server calls it")
    import yaml

    entry: dict[str, Any] = yaml.safe_load(default.read_text(encoding="utf-8"))
    return PluginConfig(entry["name"], {"model": model, "url": word, **entry["args"]})


def judge_traces(
    texts: Sequence[str],
    readings: Sequence[Reading],
    store: VerdictStore,
    seed: int,
    progress: Progress = no_progress,
) -> Judged:
    """The verdict of each reading about each text, in an order of chance that is the same for the same seed.

    Verdicts are kept in `store` as they come. When a judge can go on no longer, those in flight are still taken.
    """
    found: dict[tuple[int, int], Verdict | NoVerdict] = {}
    wanted: dict[str, _Work] = {}
    order = list(range(len(texts)))
    random.Random(derive(seed, "patterns", "order")).shuffle(order)
    for trace in order:  # both readings of a trace together: where the budget ends, whole pairs are left
        for number, reading in enumerate(readings):
            messages = reading.question.messages(texts[trace])
            key = store.key(reading.judge.model.identity, messages)
            if (known := store.get(key)) is not None:
                found[trace, number] = known
            else:
                wanted.setdefault(key, _Work(number, key, messages, [])).places.append((trace, number))
    num_kept = len(found)
    asking = _Asking(readings, store, seed)
    stopped = asking.run(list(wanted.values()), found, progress) if wanted else ""
    return Judged(found, num_kept, stopped)


class _Asking:
    """Threads that ask; the main thread takes what they bring."""

    def __init__(self, readings: Sequence[Reading], store: VerdictStore, seed: int) -> None:
        self._readings, self._store, self._seed = readings, store, seed
        self._stop = threading.Event()
        self._answers: queue.SimpleQueue[tuple[_Work, Verdict | NoVerdict | Exception | None]] = queue.SimpleQueue()
        self._done = 0

    def run(self, work: Sequence[_Work], found: dict[tuple[int, int], Verdict | NoVerdict], progress: Progress) -> str:
        """Fill `found`; why it stopped early, or empty. Raises what is no fault of a judge's server."""
        progress(Phase("judging", len(work), "verdicts", lambda: float(self._done)))
        queues: dict[int, queue.SimpleQueue[_Work | None]] = {}
        for one in work:
            queues.setdefault(id(self._readings[one.reading].judge), queue.SimpleQueue()).put(one)
        for reading in self._readings:
            waiting = queues.pop(id(reading.judge), None)
            if waiting is None:
                continue
            num_threads = max(1, min(max_concurrent(cast(Any, reading.judge.model)), waiting.qsize()))
            for _ in range(num_threads):
                waiting.put(None)
                # Not an executor's threads: the interpreter would wait for them at its end, however long one hangs.
                threading.Thread(target=self._work, args=(waiting,), daemon=True).start()
        stopped, in_a_row = "", {id(reading.judge): 0 for reading in self._readings}
        try:
            for _ in work:
                one, outcome = self._answers.get()
                self._done += 1
                if outcome is None:
                    continue
                if isinstance(outcome, Exception):
                    if not isinstance(outcome, SpiralError):
                        raise outcome
                    stopped = stopped or str(outcome)
                    continue
                found.update(dict.fromkeys(one.places, outcome))
                judge = id(self._readings[one.reading].judge)
                in_a_row[judge] = in_a_row[judge] + 1 if isinstance(outcome, NoVerdict) else 0
                if isinstance(outcome, NoVerdict) and in_a_row[judge] >= FAILURES_IN_A_ROW and not stopped:
                    stopped = self._gave_up(one.reading, outcome)
                    self._stop.set()
        finally:
            self._stop.set()
        return stopped

    def _gave_up(self, reading: int, last: NoVerdict) -> str:
        name = self._readings[reading].judge.name
        return (
            f"{name} gave no verdict on {FAILURES_IN_A_ROW} traces in a row, the last time: {last.cause}: {last.detail}"
        )

    def _work(self, waiting: queue.SimpleQueue[_Work | None]) -> None:
        while (one := waiting.get()) is not None:
            try:
                self._answers.put((one, None if self._stop.is_set() else self._asked(one)))
            except BaseException as error:  # whatever it is, the main thread waits for an answer
                self._stop.set()  # here, so that not one call more is made
                told = error if isinstance(error, Exception) else SpiralError(f"a judge raised {type(error).__name__}")
                self._answers.put((one, told))

    def _asked(self, work: _Work) -> Verdict | NoVerdict:
        reading = self._readings[work.reading]
        judge, question = reading.judge, reading.question
        messages, problem = work.messages, ""
        for attempt in range(ASKS):
            rng = random.Random(derive(self._seed, "patterns", work.key, attempt))
            try:
                with blamed(f"--judge {judge.name}, asked about a trace,"):
                    try:
                        answer = judge.model.answer(messages, rng)
                    except Unavailable as failed:
                        return NoVerdict(failed.cause, str(failed).partition(": ")[2] or failed.cause)
                verdict = question.verdict(answer)
            except Nonsense as nonsense:
                problem = str(nonsense)
                messages = question.again(work.messages, answer, problem)
                continue
            self._store.put(work.key, verdict)
            return verdict
        return NoVerdict("nonsense", f"{ASKS} answers were no verdict; {problem}")
