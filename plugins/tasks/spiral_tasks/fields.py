"""The fields of a row: how known sources call a question, its answer and its options."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from spiral import SpiralError
from spiral_tasks.grading.graders import LETTERS
from spiral_tasks.rows import LINE, Row

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("problem", "question", "Question", "prompt", "Problem"),
    "answer": ("answer", "final_answer", "Answer", "Correct Answer", "gold", "expected_answer"),
    "id": ("id", "unique_id", "question_id", "ID", "Record ID", "idx"),
    "choices": ("choices", "options"),
}
"""What is read of a row -> the names that it may have, the first that is there."""


class Fields:
    """Reads rows of one file; `named` are the names that a user gave. Raises SpiralError with the row's line."""

    def __init__(self, place: object, named: Mapping[str, str] | None = None) -> None:
        self._place, self._named = place, named or {}
        if unknown := set(self._named) - set(NAMES):
            raise SpiralError(f"fields has {', '.join(sorted(unknown))}; it names {', '.join(NAMES)}")

    def where(self, row: Row) -> str:
        return f"{self._place}, line {row[LINE]}"

    def value(self, row: Row, what: str) -> Any:
        """The value of a field; None where the row has none, or an empty one."""
        names = (self._named[what],) if what in self._named else NAMES[what]
        for name in names:
            value = row.get(name)
            if value is not None and value != "" and value != []:
                return value
        return None

    def prompt(self, row: Row) -> str:
        value = self.value(row, "prompt")
        if not isinstance(value, str) or not value.strip():
            raise SpiralError(f"{self.where(row)} has no question ({self._sought('prompt')}); {self._keys(row)}")
        return value.strip()

    def gold(self, row: Row) -> str:
        """The answer as text; of a list with one, that one, of several, all of them."""
        value = self.value(row, "answer")
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        text = "" if value is None or isinstance(value, bool | dict) else str(value).strip()
        if not text:
            raise SpiralError(
                f"{self.where(row)} has no answer to grade by ({self._sought('answer')}); {self._keys(row)}"
            )
        return text

    def id(self, row: Row, name: str) -> str:
        """The row's own, or the set's name and the line."""
        value = self.value(row, "id")
        return f"{name}-{row[LINE]}" if value is None or isinstance(value, list | dict) else str(value)

    def options(self, row: Row) -> tuple[tuple[str, ...], str]:
        """(the texts of the options, the letter of the right one). Where the source names the right one and the wrong
        ones apart, the order is drawn from the hash of the question, so that it is the same everywhere."""
        wrong = [str(row[f"Incorrect Answer {n}"]).strip() for n in (1, 2, 3) if row.get(f"Incorrect Answer {n}")]
        if wrong:
            right = self.gold(row)
            drawn = [right, *wrong]
            digest = hashlib.sha256(self.prompt(row).encode("utf-8", "surrogatepass")).hexdigest()
            random.Random(digest).shuffle(drawn)
            return tuple(drawn), LETTERS[drawn.index(right)]
        value = self.value(row, "choices")
        if isinstance(value, dict):  # as AI2's sets are saved: {"text": [...], "label": [...]}
            value = value.get("text")
        if not isinstance(value, list | tuple) or not 2 <= len(value) <= len(LETTERS):
            raise SpiralError(
                f"{self.where(row)} has no list of options ({self._sought('choices')}); {self._keys(row)}"
            )
        choices = tuple(str(option).strip() for option in value)
        letters = LETTERS[: len(choices)]
        gold = self.gold(row)
        letter = letters[int(gold)] if gold.isdecimal() and int(gold) < len(letters) else gold.strip("() .").upper()
        if len(letter) != 1 or letter not in letters:
            raise SpiralError(
                f"{self.where(row)} has the answer {gold!r}, and its options are {letters[0]} to "
                f"{letters[-1]}; give one of these letters, or a number from 0"
            )
        return choices, letter

    def _sought(self, what: str) -> str:
        return f"sought: {self._named.get(what) or ', '.join(NAMES[what])}"

    @staticmethod
    def _keys(row: Row) -> str:
        keys = ", ".join(key for key in row if key != LINE) or "none"
        return f"its fields are: {keys}; name the right one in fields={{...}}"


def with_options(prompt: str, choices: tuple[str, ...]) -> str:
    """The question with its options below, a letter each."""
    return "\n".join([prompt, *(f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False))])
