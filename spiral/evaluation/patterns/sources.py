"""Reads traces from the episode logs of runs and from the replies of benches, and samples them.

Logs may be far larger than memory: a first pass remembers where each episode or reply stands, a second one reads those
that were chosen. What of a bench's files is read is told in this module alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiral.api.errors import RunError
from spiral.api.records import LEARNER
from spiral.evaluation.benchmarks.record import RECORD, REPLIES
from spiral.evaluation.benchmarks.replies import is_right
from spiral.evaluation.patterns.traces import Domain, Sample, Stages, Trace, one_of, plain

Json = dict[str, Any]

EPISODES = "episodes.jsonl"


@dataclass(frozen=True)
class Place:
    """Where one episode or reply stands, and what it is of."""

    path: Path
    offset: int
    policy: str
    step: int | None
    domain: Domain
    name: str


@dataclass(frozen=True)
class Sampled:
    """The traces that are judged, and what they were chosen from."""

    traces: list[Trace]
    stages: dict[str, Stages]
    """By policy; none for a model without steps."""
    num_seen: int
    """Episodes and replies that there were."""
    unreadable: int
    """Lines that are none, such as one that a kill cut in two."""


def sample_traces(words: Sequence[str], num: int, num_stages: int, seed: int) -> Sampled:
    """`num` traces of each policy, stage of its training, and game or benchmark; of a game one reply an episode.

    Raises RunError for a word that names neither a run nor a bench, and where there is no trace at all.
    """
    unreadable = [0]
    places = [place for word in words for place in _places(word, unreadable)]
    names = _short({place.policy for place in places})
    last: dict[str, int] = {}
    for place in places:
        if place.step is not None:
            last[place.policy] = max(last.get(place.policy, 0), place.step)
    stages = {policy: Stages(min(num_stages, step + 1), step) for policy, step in last.items()}
    sample: Sample[Place] = Sample(num, seed)
    for place in places:
        stage = None if place.step is None else stages[place.policy].index(place.step)
        key = f"{names[place.policy]}/{place.step}/{place.name}/{place.offset}"
        sample.add((place.policy, stage, place.domain, place.name), key, place)
    chosen = [place for found in sample.chosen().values() for place in found]
    if not chosen:
        raise RunError(f"{' and '.join(words)} hold no reply of a language model yet; let the run take a step first")
    traces = [_trace(place, names[place.policy], seed) for place in chosen]
    return Sampled(traces, {names[policy]: s for policy, s in stages.items()}, len(places), unreadable[0])


def _places(word: str, unreadable: list[int]) -> Iterator[Place]:
    path = Path(word)
    if (path / "config.yaml").is_file():
        yield from _of_run(path, unreadable)
        return
    folder = path.parent if path.name == RECORD else path
    if (folder / RECORD).is_file() and (folder / REPLIES).is_file():
        yield from _of_bench(folder, unreadable)
        return
    what = "does not exist" if not path.exists() else f"has neither a run's config.yaml nor {RECORD} with {REPLIES}"
    raise RunError(f"{word} is neither a run nor a bench: it {what}; give the directory of a run, or DIR/{RECORD}")


def _of_run(run: Path, unreadable: list[int]) -> Iterator[Place]:
    """The episodes in which the learner wrote something."""
    policy = str(run.resolve())
    for offset, row in _rows(run / EPISODES, unreadable):
        try:
            if _replies(row):
                name, step = str(row["game"]), int(row["step"])
                yield Place(run / EPISODES, offset, policy, step, _domain(name), name)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            unreadable[0] += 1


def _domain(game: str) -> Domain:
    """A game of one player whose name is that of a task counts as a task."""
    return "task" if game.startswith("tasks/") else "game"


def _replies(row: Json) -> list[tuple[int, Json]]:
    """The turns that the learner wrote, by number: not those of bots, nor of past versions, whose step is another."""
    return [
        (number, turn)
        for number, turn in enumerate(row["turns"])
        if row["policies"][turn["player"]] == LEARNER and turn.get("logprob") is not None
    ]


def _of_bench(folder: Path, unreadable: list[int]) -> Iterator[Place]:
    """The graded replies; a model that is a run's checkpoint has that run as its policy."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        steps = {str(model["name"]): model["step"] for model in record["models"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{folder / RECORD} is damaged; run the same bench again, which only counts anew") from error
    found: dict[tuple[Any, ...], Place] = {}
    for offset, row in _rows(folder / REPLIES, unreadable):
        try:
            key = row["model"], row["benchmark"], row["task"], row["sample"]
            step = steps[key[0]]
            policy = key[0] if step is None else _run_of(key[0], step)
            if row["finish"] != "no room" and isinstance(row["text"], str):  # without room it was never asked
                found[key] = Place(folder / REPLIES, offset, policy, step, "task", key[1])  # of two the later counts
        except (KeyError, TypeError):
            unreadable[0] += 1
    yield from found.values()


def _run_of(model: str, step: int) -> str:
    """The run of which a bench's model is a checkpoint."""
    return str(Path(model.removesuffix(f"@{step}").removeprefix("run:")).resolve())


def _rows(path: Path, unreadable: list[int]) -> Iterator[tuple[int, Json]]:
    """Whole lines with the offsets at which they begin."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield offset, row
            else:
                unreadable[0] += 1
            offset += len(line)


def _trace(place: Place, policy: str, seed: int) -> Trace:
    with place.path.open("rb") as file:
        file.seek(place.offset)
        row = json.loads(file.readline())
    if place.path.name == REPLIES:
        grade = row.get("grade")
        where = f"{row['task']}, reply {row['sample'] + 1}"
        right = None if grade is None else is_right(grade)
        return Trace(policy, place.step, "task", place.name, plain(row["text"]), where, right)
    number, turn = one_of(_replies(row), str(place.offset), seed, lambda reply: str(reply[0]))
    where = f"step {place.step}, deal {row.get('deal')}, turn {number + 1}"
    return Trace(policy, place.step, place.domain, place.name, plain(str(turn.get("reply") or "")), where)


def _short(policies: set[str]) -> dict[str, str]:
    """Each policy by as little of its path as tells it from the others."""
    parts = {policy: Path(policy).parts for policy in policies}
    found: dict[str, str] = {}
    for policy, own in parts.items():
        for length in range(1, len(own) + 1):
            name = str(Path(*own[-length:])) if length < len(own) else policy
            if sum(other[-length:] == own[-length:] for other in parts.values()) == 1:
                break
        found[policy] = name
    return found
