"""The graders of a question: text, number, option, mathematics. Each reads the marked answer, or the words without."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from spiral import SpiralError, without_thought
from spiral_tasks.grading.answers import (
    MAX_ANSWER,
    final_answer,
    marked_answer,
    normalised,
    stated_answers,
    without_commands,
    written_answer,
)
from spiral_tasks.grading.pool import pool
from spiral_tasks.grading.units import measured

GraderName = Literal["math", "number", "text", "choice"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_INTEGER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,30})")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_PROSE = re.compile(r"(?<!\S)(?:[^\W\d_]{2,}(?=[\s.,:;!?]|$)|#{2,}|\*\*)")
"""What is no part of a formula: a word by itself, a mark of a heading or of bold letters."""


@dataclass(frozen=True, slots=True)
class TextGrader:
    """Right is the same text, whatever the case and the spaces."""

    def read(self, reply: str) -> str | None:
        return final_answer(reply)

    def grade(self, gold: str, reply: str) -> float:
        answer = self.read(reply)
        if answer is None:
            return 0.0
        said = [answer] if marked_answer(reply) else stated_answers(answer)
        return float(normalised(gold) in {normalised(text) for text in said if len(text) <= MAX_ANSWER + len(gold)})


@dataclass(frozen=True, slots=True)
class NumberGrader:
    """Right is a number that differs by no more than `absolute`, or `relative` times the gold one. Of words without a
    mark the last number is read."""

    absolute: float = 0.0
    relative: float = 1e-9

    def read(self, reply: str) -> str | None:
        answer = final_answer(reply)
        found = _NUMBER.findall((answer or "")[-MAX_ANSWER:].replace("$", "").replace("\\,", ""))
        return found[-1] if found else None

    def grade(self, gold: str, reply: str) -> float:
        answer = self.read(reply)
        one, two = _decimal(self.read(gold)), _decimal(answer)
        if one is None or two is None:
            return 0.0
        return float(abs(one - two) <= max(Decimal(self.absolute), Decimal(self.relative) * abs(one)))


@dataclass(frozen=True, slots=True)
class ChoiceGrader:
    """Right is the letter of an option, or in a box or a tag its text. `choices`: the texts of the options."""

    choices: tuple[str, ...]

    def read(self, reply: str) -> str | None:
        """The letter of the option that the reply names last; None without one."""
        marked = marked_answer(reply)
        text = (marked if marked is not None else without_thought(reply) or "").strip()
        letters = LETTERS[: len(self.choices)]
        option = rf"[\s*_$\\({{\[]*([{letters}])[\s*_$\\)}}\]]*"
        # Alone, or before its text: "B", "(B)", "**B**", "B. 4", "B: four"
        if found := re.match(rf"{option}(?:[.):,].*)?$", text[:MAX_ANSWER], re.DOTALL if marked else 0):
            return found[1]
        if marked is not None:
            same = [letter for letter, choice in zip(letters, self.choices, strict=False) if _same(choice, marked)]
            return same[0] if len(same) == 1 else None
        said = re.findall(
            rf"(?i:answer|option|choice)(?i: is| would be)?\s*:?{option}(?![A-Za-z'])", text[-MAX_ANSWER:]
        )
        line = re.match(rf"{option}(?:[.):,].*)?$", text[-MAX_ANSWER:].rpartition("\n")[2])
        return line[1] if line else said[-1] if said else None

    def grade(self, gold: str, reply: str) -> float:
        return float(self.read(reply) == gold)


@dataclass(frozen=True, slots=True)
class MathGrader:
    """Right is what is the same in mathematics, such as 1/2 and 0.5; a gold answer in words is compared as text. A unit
    may be left out; where both have one of length, an area or a volume, it is the same one.

    tolerance: the difference up to which a number is right. Raises SpiralError without math-verify.
    """

    tolerance: float | None = None

    def __post_init__(self) -> None:
        # When a benchmark is made, not in the middle of a run. Not imported: its processes do that.
        if importlib.util.find_spec("math_verify") is None:
            raise SpiralError('grading mathematics needs math-verify; pip install "spiral-selfplay[tasks]" brings it')

    def read(self, reply: str) -> str | None:
        return final_answer(reply)

    def grade(self, gold: str, reply: str) -> float:
        """Raises Ungraded for an answer that the process of the grader does not survive."""
        answer, written = self.read(reply), written_answer(reply)
        marked = written is not None
        if answer is None or (marked and len(answer) > MAX_ANSWER):
            return 0.0
        said = [answer] if marked else stated_answers(answer)
        if _squeezed(gold) in {_squeezed(text) for text in said if len(text) <= MAX_ANSWER}:
            return 1.0
        if _is_words(gold):
            return 0.0
        (gold, its_unit), (answer, unit) = measured(gold), measured((written or answer)[-MAX_ANSWER:])
        if unit != its_unit and unit is not None and its_unit is not None:
            return 0.0
        answer = without_commands(answer)
        if self.tolerance is None and _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
            return float(int(gold.replace(",", "")) == int(answer.replace(",", "")))
        prose = not marked and ("\n" in answer or _PROSE.search(answer) is not None or len(answer) > MAX_ANSWER)
        return float(pool().ask("math", gold, answer, prose, self.tolerance))


def _decimal(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def _same(choice: str, text: str) -> bool:
    return normalised(choice) == normalised(text)


def _squeezed(text: str) -> str:
    return normalised(text).replace(" ", "")


def _is_words(text: str) -> bool:
    """Whether a text is words beside commands of LaTeX, and no digit."""
    bare = _COMMAND.sub(" ", normalised(text))
    return _WORD.search(bare) is not None and re.search(r"\d", bare) is None
