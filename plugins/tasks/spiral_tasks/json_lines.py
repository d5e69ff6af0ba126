"""A benchmark of any file of JSON lines."""

from __future__ import annotations

from pathlib import Path

from spiral import SpiralError
from spiral_tasks.fields import Fields, with_options
from spiral_tasks.grading.graders import ChoiceGrader, GraderName, MathGrader, NumberGrader, TextGrader
from spiral_tasks.grading.pool import pool
from spiral_tasks.question import Grader, Question
from spiral_tasks.rows import found, read_rows
from spiral_tasks.splits import Split, in_split


def json_lines(
    path: str,
    grader: GraderName = "math",
    fields: dict[str, str] | None = None,
    tolerance: float | None = None,
    split: Split = "all",
    part: str = "test",
) -> list[Question]:
    """Questions of a user's own file, one JSON object a line, or of a folder that `datasets` saved.

    grader: `math`, `number`, `text`, or `choice` for the letter of an option. fields: names of `prompt`, `answer`,
    `id` and `choices` in the file; common ones are found without it. tolerance: what a number may differ by. split:
    `train` or `test` for a part of the questions, by their hash. part: of a folder.
    Raises SpiralError for a row without a question or an answer, with its line.
    """
    if tolerance is not None and grader not in ("math", "number"):
        raise SpiralError(f"benchmark 'jsonl': tolerance is for numbers, and grader is {grader}; leave it out")
    place = found("jsonl", path, "a file of JSON lines")
    read, made, lines = Fields(place, fields), list[Question](), dict[str, str]()
    for row in read_rows(place, part):
        prompt = read.prompt(row)
        grade: Grader = TextGrader()
        if grader == "choice":
            choices, gold = read.options(row)
            prompt, grade = with_options(prompt, choices), ChoiceGrader(choices)
        else:
            gold = read.gold(row).rpartition("####")[2].strip()
            if grader != "text":
                grade = MathGrader(tolerance) if grader == "math" else NumberGrader(tolerance or 0.0)
        id = read.id(row, Path(path).stem)
        if id in lines:
            raise SpiralError(f"{read.where(row)} has the id {id!r}, as {lines[id]} has; give each question its own")
        lines[id] = read.where(row)
        if grader == "number" and grade.read(gold) is None:
            raise SpiralError(
                f"{read.where(row)} has the answer {gold!r}, which is no number; take grader=math or text"
            )
        if in_split(prompt, split):
            made.append(Question(id, prompt, gold, grade))
    if grader == "math":
        pool().prepare("math")
    return made
