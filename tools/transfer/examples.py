"""The files of examples: experts' games for the supervised arm; random play and right answers for the common start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spiral.plugins.registry import Plugins, label
from spiral.runs.files import write_atomic
from spiral.selfplay.examples import Example, line_of
from spiral.selfplay.experts import Asked, make_collection
from tools.transfer.experiment import Experiment


def experts_file(experiment: Experiment, games: Mapping[str, str], seed: int, folder: Path) -> Path:
    """Games of each game's expert against itself, every player's decisions kept. `games`: label -> name."""
    parts = [
        _collected(experiment.experts[name], game, experiment.num_expert_games, seed, folder)
        for game, name in games.items()
    ]
    return _joined(parts, (), folder / "experts.jsonl")


def start_file(experiment: Experiment, games: Mapping[str, str], seed: int, folder: Path) -> Path:
    """Random legal play of each game, and the right answers to questions of which none is measured."""
    parts = [_collected("random", game, experiment.num_random_games, seed, folder) for game in games]
    return _joined(parts, _answers(experiment.questions), folder / "start.jsonl")


def _collected(bot: str, game: str, num: int, seed: int, folder: Path) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{bot}-{game}")
    path = folder / f"{name}.jsonl"
    make_collection(Asked([bot], games=[game], keep="all", num=num, seed=seed), path, Plugins.installed()).run()
    return path


def _answers(questions: Mapping[str, Mapping[str, Any]]) -> Iterator[Example]:
    """A finished game for each question, in which it was answered rightly."""
    for name, args in questions.items():
        for task in Plugins.installed().make("benchmark", name, **args):
            yield Example(
                game=label(f"tasks/{name}", args), number=0, deal=None, player=0, policy="gold", policies=["gold"],
                returns=[1.0], outcome="win", ending="finished", turn=0, turns=1, history=None,
                rules="Answer the question.", observation=task.prompt, legal_moves=None, thoughts="", move=task.gold,
                reply=None,
            )  # fmt: skip


def _joined(parts: list[Path], answers: Iterator[Example] | tuple[()], path: Path) -> Path:
    """One file of several, its games numbered on; left alone where it stands, since it is written as a whole."""
    if path.exists():
        return path
    lines: list[bytes] = []
    first = 0
    for part in parts:
        told = [json.loads(line) for line in part.read_bytes().splitlines()]
        lines += [json.dumps(one | {"number": first + one["number"]}).encode() + b"\n" for one in told]
        first += 1 + max((one["number"] for one in told), default=-1)
    for number, example in enumerate(answers, first):
        one = json.loads(line_of(example)) | {"number": number}
        lines.append(json.dumps(one).encode() + b"\n")
    write_atomic(path, b"".join(lines).decode())
    return path
