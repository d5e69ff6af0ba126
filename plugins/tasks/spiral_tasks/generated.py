"""Questions by the generators of reasoning-gym: procedural, seeded, offline."""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import pickle
from dataclasses import dataclass
from typing import Any

from spiral import SpiralError
from spiral_tasks.generator_names import EXCLUDED, GENERATORS
from spiral_tasks.grading.answers import MAX_ANSWER, final_answer, normalised
from spiral_tasks.grading.pool import pool
from spiral_tasks.question import Question
from spiral_tasks.splits import Split, in_split

MAX_REPEATS = 1000
"""Questions in a row that were asked before, after which a generator has no more."""


@dataclass(frozen=True, slots=True)
class GeneratedGrader:
    """Grades as the generator does, in a process of its own; 1 for full marks alone, unless `partial`."""

    generator: str
    config: str
    entry: str
    partial: bool

    def read(self, reply: str) -> str | None:
        return final_answer(reply)

    def grade(self, gold: str, reply: str) -> float:
        """Raises Ungraded for an answer that the process of the grader does not survive."""
        answer = self.read(reply)
        if answer is None or len(answer) > MAX_ANSWER + len(gold):
            return 0.0
        if answer == gold.strip():
            return 1.0
        score = float(pool().ask("generated", self.generator, self.config, self.entry, answer))
        return score if self.partial else float(score >= 1)


def generator_names() -> list[str]:
    """Those that can be asked for; none without reasoning-gym, which is not imported."""
    return [name for name in GENERATORS if name not in EXCLUDED] if _is_installed() else []


def generated(
    generator: str, size: int = 100, seed: int = 0, split: Split = "all", partial: bool = False, **config: Any
) -> list[Question]:
    """Distinct questions by a generator of reasoning-gym, such as chain_sum; further arguments are its own.

    size: how many. seed: of the generator. split: `train` or `test` for questions of which no other is in the other
    part, whatever the seeds. partial: the generator's own score of a wrong answer counts, which is above 0 for some.
    Raises SpiralError for an unknown generator, arguments that are not its own, or a size beyond its questions.
    """
    made = _dataset(generator, json.dumps({**config, "seed": seed, "size": 100_000}, sort_keys=True))
    questions: dict[str, Question] = {}
    index = repeats = 0
    written = json.dumps({**config, "seed": seed}, sort_keys=True)
    while len(questions) < size:
        entry, index = made[index], index + 1
        prompt, gold = str(entry["question"]), str(entry["answer"])
        key = normalised(prompt)
        if key in questions or not in_split(key, split):
            repeats += 1
            if repeats > MAX_REPEATS:
                raise SpiralError(
                    f"reasoning_gym/{generator} has {len(questions)} distinct questions with these arguments and "
                    f"{size} were asked for; give size={len(questions)} or less, or harder arguments"
                )
            continue
        repeats = 0
        grader = GeneratedGrader(generator, written, base64.b64encode(pickle.dumps(entry)).decode("ascii"), partial)
        questions[key] = Question(f"{generator}-{seed}-{index - 1}", prompt, gold, grader)
    return list(questions.values())


@functools.lru_cache(maxsize=64)
def _dataset(generator: str, config: str) -> Any:
    if generator in EXCLUDED:
        raise SpiralError(f"reasoning_gym/{generator} cannot be asked here: {EXCLUDED[generator]}")
    if not _is_installed():
        raise SpiralError(
            f'reasoning_gym/{generator} needs the package reasoning-gym; pip install "spiral-selfplay[tasks]" brings it'
        )
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if generator not in DATASETS:
        raise SpiralError(f"reasoning-gym has no generator '{generator}'; `spiral plugins reasoning_gym` lists them")
    try:
        return reasoning_gym.create_dataset(generator, **json.loads(config))
    except (TypeError, AssertionError, ValueError) as error:
        fields = ", ".join(f for f in DATASETS[generator][1].__dataclass_fields__ if f not in ("seed", "size"))
        raise SpiralError(f"reasoning_gym/{generator}: {error}; its own arguments are: {fields or 'none'}") from error


def _is_installed() -> bool:
    return importlib.util.find_spec("reasoning_gym") is not None
