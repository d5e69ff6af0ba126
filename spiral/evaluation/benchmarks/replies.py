"""Graded replies, and the file that keeps one a line as they come, so that a killed bench goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from spiral.api.errors import RunError
from spiral.runs.files import append, write_atomic

End = Literal["stop", "length", "no room"]
"""How a reply ended: by itself, cut at its limit, or never begun, since the prompt has no room in the context."""

Key = tuple[str, str, str, int]
"""Model, benchmark, question, sample."""


@dataclass(frozen=True)
class Reply:
    """One reply to one question, graded."""

    model: str
    benchmark: str
    task: str
    """The question's id."""
    sample: int
    """Which of the question's replies, from 0."""
    seed: int
    """64 bits; a function of the bench's seed, `task` and `sample` alone."""
    prompt_tokens: int
    limit: int
    """Tokens that it may have."""
    reply_tokens: int
    """That were sampled: those that a prompt format put there are none."""
    finish: End
    readable: bool
    """Whether it holds an answer: one that the task reads, or else in the form that the prompt asks for."""
    text: str
    """All that was replied."""
    grade: float | None
    """From 0 to 1; None where the grader failed."""
    problem: str = ""
    """How it failed, or why the prompt has no room."""

    @property
    def key(self) -> Key:
        return self.model, self.benchmark, self.task, self.sample

    @property
    def right(self) -> bool:
        """See `is_right`."""
        return self.grade is not None and is_right(self.grade)


def is_right(grade: float) -> bool:
    """Whether a grade is the full one: less is credit for a part, such as for the form of an answer."""
    return grade >= 1 - 1e-9


class ReplyLog:
    """A file with one JSON line a reply; of two for one key the later counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[Key, Reply]:
        """All replies that are kept. A last line that a killed process left unfinished is cut off the file.

        Raises RunError for a line that is none of this file's.
        """
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            write_atomic(self._path, whole)
        found: dict[Key, Reply] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                reply = Reply(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise RunError(
                    f"line {number} of {self._path} is no reply of a bench; remove that line, or give another --out"
                ) from error
            found[reply.key] = reply
        return found

    def add(self, replies: Iterable[Reply]) -> None:
        """Append replies."""
        if text := "".join(json.dumps(asdict(reply), allow_nan=False) + "\n" for reply in replies):
            append(self._path, text.encode())


def in_order(replies: Iterable[Reply], models: Sequence[str], benchmarks: Sequence[str]) -> list[Reply]:
    """Replies by model, benchmark, question and sample: the order in which they came does not matter."""
    model, benchmark = ({name: n for n, name in enumerate(names)} for names in (models, benchmarks))
    return sorted(replies, key=lambda r: (model[r.model], benchmark[r.benchmark], r.task, r.sample))
