"""What replies come to, by hand; and the file that keeps them."""

import json

import pytest

from spiral.api.errors import RunError
from spiral.evaluation.benchmarks import results
from spiral.evaluation.benchmarks.benchmark import Asking, Benchmark
from spiral.evaluation.benchmarks.replies import Reply, ReplyLog, in_order
from spiral.evaluation.benchmarks.results import Scores
from spiral.theory.accuracy import accuracy
from spiral.theory.intervals import wilson_interval


class Question:
    prompt, gold = "?", "!"

    def __init__(self, name):
        self.id = name

    def grade(self, reply):
        return 1.0


def made(grades, samples=1, model="m", name="b", limit=16, **more):
    """A benchmark and the replies to it, by their grades in the order of questions and samples."""
    num = len(grades) // samples
    benchmark = Benchmark(name, tuple(Question(f"q{n}") for n in range(num)), Asking(samples), "")
    fields = {"finish": "stop", "readable": True, "text": "t", **more}
    replies = [
        Reply(model, name, f"q{n // samples}", n % samples, n, 10, limit, 4, grade=grade, **fields)
        for n, grade in enumerate(grades)
    ]
    return benchmark, replies


def test_accuracy_counts_full_grades():
    """Credit for a part is no right answer; the mean grade tells of it."""
    benchmark, replies = made([1.0, 0.5, 0.0, 1.0])
    row = results.row("m", benchmark, Scores.of(replies))
    assert (row["accuracy"], row["mean_grade"]) == (0.5, 0.625)
    assert (row["low"], row["high"]) == pytest.approx(wilson_interval(2, 4))
    assert (row["questions"], row["replies"], row["prompt_tokens"], row["reply_tokens"]) == (4, 4, 40, 16)
    assert row["pass_at"] == {"1": 0.5}


def test_several_replies_give_avg_and_pass_at_k():
    """4 replies to each of two questions, 1 and 2 of them right: avg@4 3/8, pass@2 the mean of 1/2 and 5/6."""
    benchmark, replies = made([1, 0, 0, 0, 1, 1, 0, 0], samples=4)
    row = results.row("m", benchmark, Scores.of(replies))
    assert row["accuracy"] == pytest.approx(3 / 8)
    assert row["pass_at"] == pytest.approx({"1": 3 / 8, "2": (1 / 2 + 5 / 6) / 2, "4": 1.0})
    assert (row["low"], row["high"]) == pytest.approx(accuracy([1 / 4, 1 / 2], once=False)[1:])


def test_one_reply_a_question_tells_nothing_of_pass_at_10():
    """164 questions, of which 50 are solved: pass@1 is 0.305, and there is no pass@10 of the wrong counts, 0.977."""
    benchmark, replies = made([1.0] * 50 + [0.0] * 114)
    scores = Scores.of(replies)
    assert results.row("m", benchmark, scores)["pass_at"] == {"1": pytest.approx(50 / 164)}
    assert scores.pass_at(10) is None


def test_a_failed_grader_is_counted_and_is_no_wrong_answer():
    """Of four replies one has no grade: two of three are right, and the row tells of all four."""
    benchmark, replies = made([1.0, 1.0, 0.0, None])
    row = results.row("m", benchmark, Scores.of(replies))
    assert (row["accuracy"], row["replies"], row["ungraded"]) == (pytest.approx(2 / 3), 4, 1)
    [note] = results.notes([row], replies)
    assert "the grader failed on 1 replies" in note
    assert "q3" in note


def test_unreadable_and_unasked_are_told_apart_from_wrong():
    """100 empty replies are 0 right, all of them unreadable, and the note shows one."""
    benchmark, replies = made([0.0] * 100, readable=False, text="I do not know")
    row = results.row("m", benchmark, Scores.of(replies))
    assert (row["accuracy"], row["unreadable"], row["cut"], row["no_room"]) == (0.0, 1.0, 0.0, 0)
    [note] = results.notes([row], replies)
    assert "100% of the replies hold no answer" in note
    assert "'I do not know'" in note
    benchmark, replies = made([0.0, 0.0], finish="no room", problem="too long")
    row = results.row("m", benchmark, Scores.of(replies))
    assert (row["no_room"], row["mean_reply_tokens"]) == (2, 0.0)
    [note] = results.notes([row], replies)
    assert "2 of 2 questions were not asked and count as wrong" in note
    assert "too long" in note


def test_models_with_unlike_limits_are_told():
    """As contexts of unlike lengths make them where no limit is given: the comparison is not of models alone."""
    benchmark, one = made([1.0])
    _, other = made([1.0], model="n", limit=8)
    rows = [results.row(model, benchmark, Scores.of(replies)) for model, replies in (("m", one), ("n", other))]
    [note] = results.notes(rows, [*one, *other])
    assert note.startswith("b: replies may have 16 tokens by m, 8 tokens by n, half of a model's context at most")
    assert results.notes(rows[:1], one) == []


def test_a_difference_is_over_common_questions():
    """One without a grade in either model is left out of both."""
    benchmark, first = made([1, 0, 0, None])
    _, other = made([1, 1, 1, 1], model="n")
    found = results.difference(Scores.of(first), "n", Scores.of(other), benchmark, 0)
    assert (found["questions"], found["mean"], found["better"], found["worse"]) == (3, pytest.approx(2 / 3), 2, 0)
    assert found["p_value"] == pytest.approx(0.5)
    _, none = made([None] * 4, model="n")
    assert results.difference(Scores.of(first), "n", Scores.of(none), benchmark, 0) is None


def test_the_mean_over_benchmarks_is_unweighted():
    """1 of 2 and 8 of 8 is 0.75, not 9 of 10; of one benchmark there is no mean."""
    small, big = made([1, 0], name="small"), made([1] * 8, name="big")
    scores = {("m", b.label): Scores.of(replies) for b, replies in (small, big)}
    found = results.means(["m"], [small[0], big[0]], scores)
    assert found["models"][0]["accuracy"] == 0.75
    assert found["models"][0]["reply_tokens"] == 40
    assert results.means(["m"], [small[0]], scores) == {"models": [], "differences": []}


def test_replies_are_read_back_and_a_line_cut_by_a_kill_is_dropped(tmp_path):
    """The file is whole again afterwards, so that the next line does not join the half one; the later of two lines for
    one reply counts."""
    _, replies = made([1.0, 0.0, None], text="üß\n\u2028")
    log = ReplyLog(tmp_path / "replies.jsonl")
    assert log.read() == {}
    log.add(replies)
    whole = (tmp_path / "replies.jsonl").read_bytes()
    (tmp_path / "replies.jsonl").write_bytes(whole[:-20])
    assert list(log.read().values()) == replies[:2]
    log.add(replies[2:])
    assert (tmp_path / "replies.jsonl").read_bytes() == whole
    log.add(made([1.0, 0.0, 0.5], text="later")[1][2:])
    assert log.read()["m", "b", "q2", 0].grade == 0.5
    with (tmp_path / "replies.jsonl").open("a") as file:
        file.write(json.dumps({"other": 1}) + "\n")
    with pytest.raises(RunError, match="line 5 of .* is no reply of a bench"):
        log.read()


def test_each_model_has_the_replies_that_it_gave(tmp_path):
    """Two models, one file, the same questions: what is read back gives 1 and 0, and never one model's for the other."""
    benchmark, right = made([1.0] * 5, text="1")
    _, wrong = made([0.0] * 5, text="2", model="n")
    log = ReplyLog(tmp_path / "replies.jsonl")
    log.add([reply for both in zip(right, wrong, strict=True) for reply in both])
    kept = [*log.read().values()]
    of = {name: Scores.of([reply for reply in kept if reply.model == name]) for name in ("m", "n")}
    assert {name: results.row(name, benchmark, of[name])["accuracy"] for name in of} == {"m": 1.0, "n": 0.0}
    assert {(reply.model, reply.text) for reply in kept} == {("m", "1"), ("n", "2")}


def test_the_order_does_not_depend_on_what_came_first():
    replies = [*made([1, 0], model="n")[1], *made([1, 0], model="m")[1]]
    assert [(r.model, r.task) for r in in_order(replies[::-1], ["m", "n"], ["b"])] == [
        ("m", "q0"), ("m", "q1"), ("n", "q0"), ("n", "q1"),
    ]  # fmt: skip
