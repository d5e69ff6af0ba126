"""The known sets of questions: a user's own file is read, and held against what the set is.

No question is part of this distribution: rights differ, and what is on a public page is soon in training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spiral import SpiralError
from spiral_tasks.fields import Fields, with_options
from spiral_tasks.grading.graders import ChoiceGrader, MathGrader
from spiral_tasks.grading.pool import pool
from spiral_tasks.question import Question
from spiral_tasks.rows import Row, found, read_rows, sha256


@dataclass(frozen=True, slots=True)
class KnownSet:
    """One set: what its file must be, and where to get one."""

    title: str
    grading: Literal["math", "choice"]
    num_rows: int
    source: str
    digest: str = ""
    """SHA-256 of the file that was checked row by row; empty where there was none."""


SETS: Mapping[str, KnownSet] = {
    "math500": KnownSet(
        "MATH-500, of Hendrycks' MATH", "math", 500, "the set HuggingFaceH4/MATH-500 of the Hugging Face Hub",
        "3fe68ca2c1b94f9381a16527afdebf60247d7d364657d11e3d8d8db539cabac3",
    ),
    "aime24": KnownSet(
        "AIME 2024 I and II", "math", 30, "the set HuggingFaceH4/aime_2024 of the Hugging Face Hub",
        "935f7bd42b0a8b8a43dded13d3145103cf924d460dd545a39e197f729f440dbb",
    ),
    "aime25": KnownSet(
        "AIME 2025 I and II", "math", 30, "the set math-ai/aime25 of the Hugging Face Hub",
        "c262f02f91dca26c4dc0685f0cea6a3af6457b8e6c638b8877a282c2f2a564ad",
    ),
    "amc23": KnownSet(
        "AMC 12 of 2023, A and B", "math", 40, "the set math-ai/amc23 of the Hugging Face Hub",
        "e87a7479e5016505d97461b056eb8fcc455fb311470a2e9d25d56ad591b664b3",
    ),
    "minerva_math": KnownSet(
        "MIT OpenCourseWare problems of the Minerva paper", "math", 272,
        "the set math-ai/minervamath of the Hugging Face Hub",
        "ade686a6484c2565c93a24f9c41ec58837c0dddcbf13947b7b5db8c03c56278a",
    ),
    "olympiadbench": KnownSet(
        "OlympiadBench, the open-ended mathematics in English", "math", 675,
        "the part OE_TO_maths_en_COMP of the set Hothan/OlympiadBench of the Hugging Face Hub",
        "130eaa8f4eba356ce42a52ff8531933168c98604142f953ad3164b53861297ee",
    ),
    "gsm8k": KnownSet(
        "GSM8K, the test part", "math", 1319, "the test part of the set openai/gsm8k of the Hugging Face Hub",
    ),
    "gpqa_diamond": KnownSet(
        "GPQA Diamond", "choice", 198,
        "the part gpqa_diamond of the set Idavidrein/gpqa of the Hugging Face Hub (its authors ask that its questions "
        "are not put online in plain text, so accept their terms there and keep your own file)",
    ),
    "mmlu_pro": KnownSet(
        "MMLU-Pro, the test part", "choice", 12032,
        "the test part of the set TIGER-Lab/MMLU-Pro of the Hugging Face Hub",
    ),
    "mmlu": KnownSet(
        "MMLU, the test part", "choice", 14042, "the test part of the set cais/mmlu (all) of the Hugging Face Hub",
    ),
    "mmlu_stem": KnownSet(
        "MMLU, its 18 subjects of science and mathematics", "choice", 3018,
        "the rows of those subjects of the test part of the set cais/mmlu (all) of the Hugging Face Hub",
        "11d63efe7b34b4e9dde2f5806fca5bf53720513dd5800e9c699c0a94b4a67079",
    ),
}  # fmt: skip


class KnownBenchmark:
    """The factory of one of the sets."""

    def __init__(self, name: str) -> None:
        self._name, self._of = name, SETS[name]
        self.__doc__ = (
            f"{self._of.title}: {self._of.num_rows} questions.\n\n"
            f"path: {self._of.source}, as a file of JSON lines or a folder that `datasets` saved; without it, "
            f"{name}.jsonl in the folder that SPIRAL_TASKS_DIR names. pinned: whether another number of questions, or "
            "another file where one was checked, is refused. part: of a folder."
        )

    def __call__(self, path: str | None = None, pinned: bool = True, part: str = "test") -> list[Question]:
        name, of, place = self._name, self._of, found(self._name, path, self._of.source)
        if pinned and of.digest and place.is_file() and (digest := sha256(place)) != of.digest:
            raise SpiralError(
                f"benchmark '{name}': {place} has the SHA-256 {digest}, and the file that was checked has {of.digest}; "
                "restore it, or give pinned=false to take this one as it is"
            )
        rows = read_rows(place, part)
        if pinned and len(rows) != of.num_rows:
            raise SpiralError(
                f"benchmark '{name}': {place} holds {len(rows)} questions, and the set has {of.num_rows}; restore it, "
                "or give pinned=false to take this one as it is"
            )
        if of.grading == "math":
            pool().prepare("math")
        return questions(name, of.grading, rows, place)

    def missing(self, path: str | None = None, **args: object) -> str:
        """Why it cannot be made; empty where its questions are there."""
        try:
            found(self._name, path, self._of.source)
        except SpiralError as error:
            return str(error)
        return ""


def questions(name: str, grading: Literal["math", "choice"], rows: list[Row], place: Path) -> list[Question]:
    """The rows of a known set as tasks. Raises SpiralError for one without a question or an answer."""
    fields = Fields(place)
    return [(_choice if grading == "choice" else _math)(name, row, fields) for row in rows]


def _math(name: str, row: Row, fields: Fields) -> Question:
    prompt, gold = fields.prompt(row), fields.gold(row).rpartition("####")[2].strip()
    if context := row.get("context"):
        prompt = f"{context}\n{prompt}"
    return Question(fields.id(row, name), prompt, gold, MathGrader(_tolerance(row, fields)))


def _choice(name: str, row: Row, fields: Fields) -> Question:
    choices, letter = fields.options(row)
    return Question(fields.id(row, name), with_options(fields.prompt(row), choices), letter, ChoiceGrader(choices))


def _tolerance(row: Row, fields: Fields) -> float | None:
    """What a row of OlympiadBench allows a number to differ by."""
    text = row.get("error")
    try:
        return None if text in (None, "") else float(str(text).split(",")[0])
    except ValueError as error:
        raise SpiralError(f"{fields.where(row)} has the tolerance {text!r}; give a number") from error
