"""The bench of grading: what it grades, not how fast that is."""

import json

import pytest

from perf.grading import mathematics, wrong


@pytest.mark.parametrize(
    ("gold", "number", "other"), [("12", 0, "22"), ("12", 1, "13"), (r"x_{9}", 0, r"x_{0}"), ("pi", 3, "pi3")]
)
def test_a_wrong_answer_differs_by_a_digit(gold, number, other):
    assert wrong(gold, number) == other


def test_replies_are_solutions_whose_answer_is_right_other_words_or_wrong(tmp_path):
    """A third each, and not the same questions' each time round."""
    pytest.importorskip("math_verify")
    rows = [
        {"id": str(n), "problem": f"{n}?", "answer": f"{n}5", "solution": f"It is so: $\\boxed{{{n}5}}$."}
        for n in range(3)
    ]
    file = tmp_path / "math500.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    jobs = mathematics(file, 9, lambda before, answer: f"{before}|{answer}")
    assert [task.id for task, _ in jobs] == ["0", "1", "2"] * 3
    assert [reply for _, reply in jobs[:3]] == ["It is so: $|05", "It is so: $|x = 15", "It is so: $|35"]
    assert [reply.partition("|")[2] for _, reply in jobs[3:]] == ["x = 05", "25", "25", "15", "15", "x = 25"]
