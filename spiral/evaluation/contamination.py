"""Questions that a run would train on and evaluate by: an accuracy on them says what was learnt by heart."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spiral.api.errors import ConfigError
from spiral.api.tasks import Task

_MEANS_NOTHING = re.compile(r"[\s$]+|\\(?:left|right|,|;|!|quad)(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class Overlap:
    """What one game and one benchmark share."""

    game: str
    benchmark: str
    num_shared: int
    num_evaluated: int
    example: str
    """The prompt of a shared question."""


def questions(game: object) -> Sequence[Task]:
    """All that a game may ask: its optional member `tasks`; () for a game that asks nothing."""
    tasks: Sequence[Task] = getattr(game, "tasks", ())
    return tasks


def overlap(trained: Mapping[str, Iterable[Task]], evaluated: Mapping[str, Iterable[Task]]) -> list[Overlap]:
    """Each game of `trained` and benchmark of `evaluated` that share a question, by their names; [] if none does.

    Two prompts are one question if they differ in case, spaces, dollar signs and the width of letters alone.
    """
    asked = {game: {fingerprint(task.prompt) for task in tasks} for game, tasks in trained.items()}
    found = []
    for benchmark, tasks in evaluated.items():
        prompts = [task.prompt for task in tasks]
        for game, seen in asked.items():
            shared = [prompt for prompt in prompts if fingerprint(prompt) in seen]
            if shared:
                found.append(Overlap(game, benchmark, len(shared), len(prompts), shared[0]))
    return found


def refuse_overlap(trained: Mapping[str, Iterable[Task]], evaluated: Mapping[str, Iterable[Task]]) -> None:
    """Raise ConfigError where a run would train on a question that it evaluates by."""
    found = overlap(trained, evaluated)
    if found:
        raise ConfigError("\n".join(map(_told, found)))


def fingerprint(prompt: str) -> str:
    """A hash of a question's text, without differences that mean nothing."""
    plain = _MEANS_NOTHING.sub("", unicodedata.normalize("NFKC", prompt)).casefold().rstrip(".?!:=")
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def _told(one: Overlap) -> str:
    text = " ".join(one.example.split())
    example = f"{text[:60]}..." if len(text) > 60 else text
    return (
        f"games: {one.game} trains on {one.num_shared} of the {one.num_evaluated} questions that evaluate.tasks asks "
        f"of {one.benchmark}, such as {example!r}; train on other questions, such as those of split=train, and "
        "evaluate those of split=test"
    )
