"""Writes a bench's page from its record: the tables, and the replies with their questions, to read and to filter.

As safe as a run's page: questions and replies are embedded as data and shown as text only. It is bounded in size; the
file of replies beside it holds them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from spiral.reports.html.document import asset, document

Json = dict[str, Any]

MAX_REPLIES = 2000
"""Of all; of one model to one benchmark at most `MAX_OF_ONE`."""
MAX_OF_ONE = 300
MAX_CHARS = 16_000_000
"""Of the texts of all replies together."""
MAX_TEXT = 40_000
"""Characters of one text; of a longer one both ends are shown."""


class ShownReply(Protocol):
    """What the page tells of a reply; see `spiral.evaluation.benchmarks.replies.Reply`."""

    @property
    def model(self) -> str: ...
    @property
    def benchmark(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def sample(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def reply_tokens(self) -> int: ...
    @property
    def finish(self) -> str: ...
    @property
    def readable(self) -> bool: ...
    @property
    def text(self) -> str: ...
    @property
    def grade(self) -> float | None: ...
    @property
    def problem(self) -> str: ...
    @property
    def right(self) -> bool: ...


class ShownTask(Protocol):
    """What the page tells of a question."""

    @property
    def prompt(self) -> str: ...

    @property
    def gold(self) -> str: ...


def bench_page(
    record: Mapping[str, Any], replies: Sequence[ShownReply], tasks: Mapping[tuple[str, str], ShownTask]
) -> str:
    """The page as HTML; `tasks`: benchmark and id -> the question. The same values give the same bytes."""
    kept = _kept(replies)
    limit = min(MAX_TEXT, MAX_CHARS // max(1, len(kept)))
    asked = dict.fromkeys((reply.benchmark, reply.task) for reply in kept)
    questions: dict[str, dict[str, list[str]]] = {}
    for benchmark, task in asked:
        found = tasks[benchmark, task]
        questions.setdefault(benchmark, {})[task] = [_bounded(found.prompt, limit), _bounded(found.gold, limit)]
    data = {
        **record,
        "questions": questions,
        "replies": [_shown(reply, limit) for reply in kept],
        "num_replies": len(replies),
    }
    names = record.get("suite") or ", ".join(one["label"] for one in record["benchmarks"])
    style = asset("page.css") + asset("tournament.css") + asset("bench.css")
    return document(f"{names} · spiral bench", data, style, asset("charts.js") + asset("bench.js"))


def _kept(replies: Sequence[ShownReply]) -> list[ShownReply]:
    """Of each model and benchmark those to the first questions, right ones and others in equal parts where there are
    too many; all models are shown on the same questions where they can be."""
    by_part: dict[tuple[str, str, bool], list[ShownReply]] = {}
    for reply in replies:
        by_part.setdefault((reply.model, reply.benchmark, reply.right), []).append(reply)
    parts = len({(model, benchmark) for model, benchmark, _ in by_part})
    most = max(20, min(MAX_OF_ONE, MAX_REPLIES // max(1, parts)))
    kept: set[int] = set()
    for (model, benchmark, right), part in by_part.items():
        others = len(by_part.get((model, benchmark, not right), ()))
        kept |= {id(reply) for reply in part[: max(most // 2, most - others)]}
    return [reply for reply in replies if id(reply) in kept]


def _shown(reply: ShownReply, limit: int) -> Json:
    return {
        "model": reply.model,
        "benchmark": reply.benchmark,
        "task": reply.task,
        "sample": reply.sample,
        "tokens": reply.reply_tokens,
        "finish": reply.finish,
        "readable": reply.readable,
        "text": _bounded(reply.text, limit),
        "grade": reply.grade,
        "right": reply.right,
        "problem": reply.problem,
    }


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters are left out here ...]\n{text[-half:]}"
