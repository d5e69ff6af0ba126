"""Which benchmarks are asked, and how: their texts parsed once, their questions loaded, checked and hashed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.tasks import Task
from spiral.config.loading import parse_plugin
from spiral.config.schema import PluginConfig
from spiral.plugins.faults import blamed
from spiral.plugins.registry import Plugins, label

_OUTSIDE_QUOTES = r'(?=(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*$)'
_BETWEEN_NAMES = re.compile(r",(?![A-Za-z_][\w.]*=)" + _OUTSIDE_QUOTES, re.S)
"""A comma that no `key=` follows, which would go on with the arguments of the name before."""
_TIMES = re.compile(r"(.*[^@])@(\d+)", re.S)

REPEATED_TEMPERATURE = 0.6
"""At which a question is asked several times where no temperature is given: SPIRAL's (arXiv 2506.24119)."""


@dataclass(frozen=True)
class Asking:
    """How the questions of one benchmark are asked; None leaves a value to its default."""

    samples: int = 1
    """Replies to each question."""
    temperature: float | None = None
    """0, the likeliest reply, for one reply to a question; `REPEATED_TEMPERATURE` for several."""
    top_p: float = 1.0
    max_new_tokens: int | None = None
    """See `spiral.evaluation.benchmarks.asking.reply_limit`."""
    limit: int | None = None
    """The first so many questions; all without it."""

    @property
    def resolved_temperature(self) -> float:
        """With the default filled in."""
        if self.temperature is None:
            return 0.0 if self.samples == 1 else REPEATED_TEMPERATURE
        return self.temperature


@dataclass(frozen=True)
class Chosen:
    """A benchmark by name, and how it is asked."""

    plugin: PluginConfig
    asking: Asking = Asking()

    @property
    def label(self) -> str:
        """What tables and files call it."""
        return label(self.plugin.name, self.plugin.args)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with its questions."""

    label: str
    tasks: tuple[Task, ...]
    asking: Asking
    content: str
    """A hash of the questions and golds that are asked."""


def parse_chosen(texts: Sequence[str], asking: Asking) -> list[Chosen]:
    """What `NAME`, `NAME:key=value,key=value` and `NAME...@k`, joined by commas, name; `k` replies to each question.

    Raises SpiralError for a text that names nothing, and for a benchmark that is named twice.
    """
    parts = [part.strip() for text in texts for part in _BETWEEN_NAMES.split(text)]
    found = [_parse_one(part, asking) for part in parts if part]
    if not found:
        raise SpiralError("no benchmark is named; give --tasks NAME,NAME@k or --suite; spiral plugins lists them")
    twice = [name for name, times in Counter(one.label for one in found).items() if times > 1]
    if twice:
        raise SpiralError(f"benchmark {twice[0]} is named twice; name each once, with @k for k replies a question")
    return found


def _parse_one(text: str, asking: Asking) -> Chosen:
    if times := _TIMES.fullmatch(text):
        text, asking = times[1], replace(asking, samples=int(times[2]))
    if asking.samples < 1:
        raise SpiralError(f"{text}@{asking.samples} asks for no reply; give @1 or more")
    if asking.samples > 1 and asking.temperature == 0:
        raise SpiralError(
            f"{text}@{asking.samples} asks for several replies to a question, and at temperature 0 they would all be "
            f"alike; give a --temperature above 0, or leave @{asking.samples} out"
        )
    return Chosen(parse_plugin(text), asking)


def check_chosen(chosen: Sequence[Chosen], plugins: Plugins) -> None:
    """Raise SpiralError with every name or argument that does not fit, a sentence each; makes nothing."""
    named = [one.plugin for one in chosen]
    if problems := [p for one in named if (p := plugins.problem("benchmark", one.name, one.args))]:
        raise SpiralError("\n".join(problems))


def load_benchmarks(chosen: Sequence[Chosen], plugins: Plugins) -> list[Benchmark]:
    """Make them all. Raises SpiralError with what is wrong with each, a sentence each."""
    check_chosen(chosen, plugins)
    found, problems = [], []
    for one in chosen:
        try:
            found.append(load_benchmark(one, plugins))
        except SpiralError as error:
            problems.append(str(error))
    if problems:
        raise SpiralError("\n".join(problems))
    return found


def load_benchmark(chosen: Chosen, plugins: Plugins) -> Benchmark:
    """Make a benchmark's questions. Raises SpiralError for one without questions, or with one that cannot be asked."""
    tasks = plugins.make("benchmark", chosen.plugin.name, **chosen.plugin.args)
    with blamed(f"benchmark '{chosen.plugin.name}', as its questions were read,"):
        limit = chosen.asking.limit
        num = len(tasks) if limit is None else min(limit, len(tasks))
        questions = tuple(tasks[number] for number in range(num))  # one at a time: not every sequence takes a slice
        told = [_told(task) for task in questions]
    if not questions:
        raise SpiralError(f"benchmark {chosen.label} holds no question; check its arguments and the file that it reads")
    twice = [name for name, times in Counter(name for name, _, _ in told).items() if times > 1]
    if twice:
        raise SpiralError(f"benchmark {chosen.label} has two questions of the id {twice[0]!r}; give each its own")
    for name, prompt, gold in told:
        if not prompt or not gold:
            what = "gold answer" if prompt else "prompt"
            raise SpiralError(f"benchmark {chosen.label}: question {name!r} has no {what}; complete or remove it")
    content = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
    return Benchmark(chosen.label, questions, chosen.asking, content)


def _told(task: Any) -> tuple[str, str, str]:
    return str(task.id), str(task.prompt or ""), str(task.gold or "")
