"""Questions by the generators of reasoning-gym: procedural, seeded, offline."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from typing import Any

from spiral import SpiralError
from spiral_tasks.generator_names import EXCLUDED, GENERATORS
from spiral_tasks.grading.answers import MAX_ANSWER, final_answer, marked_answer, stated_answers
from spiral_tasks.grading.pool import Ungraded, pool
from spiral_tasks.question import Question
from spiral_tasks.splits import Split


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
        if answer is None:
            return 0.0
        said = [answer] if marked_answer(reply) else _stated(answer)
        said = [text for text in said if len(text) <= MAX_ANSWER + len(gold)]
        if gold.strip() in said:
            return 1.0
        asked = ("generated", self.generator, self.config, self.entry)
        score = max((float(pool().ask(*asked, text)) for text in said), default=0.0)
        return score if self.partial else float(score >= 1)


def _stated(words: str) -> list[str]:
    """What words without a mark may give as the answer: see `stated_answers`, and what an equation ends with."""
    stated = [text.strip().removesuffix(".") for text in stated_answers(words)]
    equation = stated[1].rpartition("=")[2].strip()
    return list(dict.fromkeys(text for text in (words, *stated, equation) if text))


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
    if generator in EXCLUDED:
        raise SpiralError(f"reasoning_gym/{generator} cannot be asked here: {EXCLUDED[generator]}")
    if not _is_installed():
        raise SpiralError(
            f'reasoning_gym/{generator} needs the package reasoning-gym; pip install "spiral-selfplay[tasks]" brings it'
        )
    written = json.dumps({**config, "seed": seed}, sort_keys=True)
    try:
        made = pool().ask("questions", generator, written, size, split)
    except Ungraded as error:
        raise SpiralError(
            f"reasoning_gym/{generator} made no questions: its process {error}; run: spiral check "
            f"reasoning_gym/{generator}"
        ) from error
    return [
        Question(f"{generator}-{seed}-{index}", prompt, gold, GeneratedGrader(generator, written, entry, partial))
        for index, prompt, gold, entry in made
    ]


def _is_installed() -> bool:
    return importlib.util.find_spec("reasoning_gym") is not None
