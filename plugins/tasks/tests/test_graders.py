"""The graders that need no process: what is read of a reply, and what counts as right."""

import pytest
from spiral_tasks.grading.answers import final_answer, marked_answer, normalised
from spiral_tasks.grading.graders import ChoiceGrader, NumberGrader, TextGrader
from spiral_tasks.question import Question


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("12", "12"),
        (r"so \boxed{12}.", "12"),
        (r"\boxed{3}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{7}}", r"\boxed{7}"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1, 2"),
        (r"\boxed{1}, or with a longer way around \boxed{2}", "2"),
        (r"\boxed{\text{Evelyn}}", "Evelyn"),
        ("<answer>12</answer> it is", "12"),
        ("<think>\\boxed{1}</think> \\boxed{2}", "2"),
        ("<think>\\boxed{1}</think> 3", "3"),
        ("<think>\\boxed{1}", None),
        ("\\boxed{", "\\boxed{"),
        ("\\boxed{}", "\\boxed{}"),
        ("", None),
        (" \n", None),
    ],
)
def test_the_answer_of_a_reply(reply, answer):
    """The last box, of boxes in a row all; else a tag; else all that is behind the thought."""
    assert final_answer(reply) == answer


def test_a_long_reply_is_read_once():
    """A million boxes, open and closed, in one pass each: quadratic work would take hours."""
    assert marked_answer("\\boxed{" * 100_000) is None
    assert marked_answer("\\boxed{1} x " * 50_000) == "1"
    assert final_answer("{" * 500_000 + "}" * 500_000) is not None


def test_texts_that_say_the_same():
    assert normalised(r" $\text{East}$. ") == normalised("EAST")
    assert normalised("a b") != normalised("a c")


FOUR = ChoiceGrader(("3", "4", "five", "none of these"))


@pytest.mark.parametrize(
    "reply",
    [
        "B", "B.", "B. 4", "(B)", "ANSWER: B", "**B**", "b is wrong, so\nB", r"\boxed{B}", r"\boxed{\text{(B)}}", r"\boxed{4}",
        "Answer: (B)", "The answer is B.", "The correct answer is: **B**", "<think>maybe (A)</think> Answer: B",
        "write ANSWER: [LETTER] at the end. So ANSWER: B", "The answer is A. No, the answer is B.", "<answer>B</answer>", "B: 4",
        "Option B is right", "$B$",
    ],
)  # fmt: skip
def test_a_right_option(reply):
    assert FOUR.grade("B", reply) == 1


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "A",
        "E",
        "A cat is B",
        "I do not know",
        "Because of this",
        "<think>B",
        "The answer is Bob",
        "AB",
        "3",
        r"\boxed{5}",
    ],
)
def test_an_option_that_is_wrong_or_not_said(reply):
    """Never a share of a point for nothing, and no word that begins with the letter."""
    assert FOUR.grade("B", reply) == 0


def test_what_was_not_answered_is_told_apart():
    """`read` gives None: a hundred empty replies are a hundred unread ones."""
    task = Question("q", "2 + 2", "B", FOUR)
    assert [task.read(r) for r in ("", "hm", "<think>B", "Answer: C")] == [None, None, None, "C"]
    ten = Question("q", "Which?", "B", ChoiceGrader(tuple("0123456789")))
    empty = [("", " ", "\n", "<think>B")[n % 4] for n in range(100)]
    assert [ten.grade(reply) for reply in empty] == [0.0] * 100
    assert [ten.read(reply) for reply in empty] == [None] * 100


@pytest.mark.parametrize(
    ("gold", "reply", "grade"),
    [
        ("12", "12", 1), ("12", "12.0", 1), ("12", "it is 3, no, 12", 1), ("12", "12 or 13", 0), ("1,000", "1000", 1),
        ("0.5", ".5", 1), ("-3", "3", 0), ("-3", "-3", 1), ("1e3", "1000", 1), ("12", "", 0), ("12", "twelve", 0),
        ("12", "1e999999999", 0), ("12", "9" * 100_000, 0), ("025", "25", 1),
    ],
)  # fmt: skip
def test_numbers(gold, reply, grade):
    assert Question("q", "?", gold, NumberGrader()).grade(reply) == grade


@pytest.mark.parametrize(("reply", "grade"), [("4.25", 1), ("4.3", 1), ("4.35", 0), ("4.1", 1), ("4.05", 0)])
def test_a_tolerance(reply, grade):
    assert NumberGrader(absolute=0.1).grade("4.2", reply) == grade


@pytest.mark.parametrize(
    ("reply", "grade"),
    [("Paris", 1), (" paris.", 1), (r"\boxed{\text{Paris}}", 1), ("The answer is Paris.", 1), ("I think\nParis", 1),
     ("Paris or Rome", 0), ("Rome, not Paris", 0), ("", 0)],
)  # fmt: skip
def test_texts(reply, grade):
    assert TextGrader().grade("Paris", reply) == grade


def test_a_grader_that_fails_is_logged_and_counts_as_wrong(caplog):
    """Whatever a model writes, the run goes on; many failures alike are told ever more seldom."""

    class Failing:
        def read(self, reply):
            raise RecursionError("too deep")

        grade = None

    class Raising(Failing):
        def grade(self, gold, reply):
            raise RecursionError("too deep, on purpose")

    task = Question("q-7", "?", "1", Raising())
    assert [task.grade("((((") for _ in range(11)] == [0.0] * 11
    assert task.read("((((") is None
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[1].endswith("(RecursionError: too deep, on purpose; 10 such so far)")
    assert "q-7" in lines[0]
