"""Files of questions: which fields are read, what is refused and how, and known sets held against what they are."""

import json
import re

import pytest
from spiral_tasks import known_sets
from spiral_tasks.json_lines import json_lines
from spiral_tasks.known_sets import SETS, KnownBenchmark, KnownSet
from spiral_tasks.rows import FOLDER

from spiral import SpiralError


@pytest.fixture
def write(tmp_path):
    def write(rows, name="mine.jsonl"):
        path = tmp_path / name
        path.write_text(
            "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8"
        )
        return str(path)

    return write


@pytest.mark.parametrize(
    ("row", "prompt", "gold"),
    [
        ({"problem": "1 + 1", "answer": "2"}, "1 + 1", "2"),
        ({"question": "1 + 1", "answer": "one and one\n#### 2"}, "1 + 1", "2"),
        ({"question": "1 + 1", "final_answer": ["2"]}, "1 + 1", "2"),
        ({"question": "roots", "final_answer": ["1", "2"]}, "roots", "1, 2"),
        ({"prompt": " 1 + 1 ", "gold": 2}, "1 + 1", "2"),
        ({"problem": "2 - 2", "answer": 0}, "2 - 2", "0"),
        ({"Question": "1 + 1", "Correct Answer": "2"}, "1 + 1", "2"),
    ],
)
def test_the_fields_of_common_sources(row, prompt, gold, write):
    (task,) = json_lines(write([row]))
    assert (task.id, task.prompt, task.gold) == ("mine-1", prompt, gold)


def test_fields_by_the_names_that_a_user_gives(write):
    path = write([{"q": "1 + 1", "a": "2", "no": "x1", "problem": "decoy"}])
    (task,) = json_lines(path, fields={"prompt": "q", "answer": "a", "id": "no"})
    assert (task.id, task.prompt, task.gold) == ("x1", "1 + 1", "2")
    with pytest.raises(SpiralError, match="fields has question; it names prompt, answer, id, choices"):
        json_lines(path, fields={"question": "q"})


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"problem": "1", "answer": "1"}, {"problem": "2"}], r"line 2 has no answer to grade by \(sought: answer, .*its fields are: problem"),
        ([{"problem": "1", "answer": ""}], "line 1 has no answer to grade by"),
        ([{"problem": "1", "answer": None}], "line 1 has no answer to grade by"),
        ([{"text": "1", "answer": "1"}], "line 1 has no question .* its fields are: text, answer; name the right one"),
        (["{"], "line 1: .*; give one JSON object a line"),
        (["[1]"], "line 1 is no JSON object"),
        ([], "holds no question; give a file with one JSON object a line"),
        ([{"problem": "1", "answer": "1", "id": "a"}, {"problem": "2", "answer": "2", "id": "a"}], "line 2 has the id 'a', as .*line 1 has"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_graded_is_named_by_its_line(rows, told, write):
    with pytest.raises(SpiralError, match=told):
        json_lines(write(rows))


def test_a_number_that_is_none_is_refused(write):
    path = write([{"problem": "1 + 1", "answer": "two"}])
    with pytest.raises(SpiralError, match="line 1 has the answer 'two', which is no number; take grader=math or text"):
        json_lines(path, grader="number")
    assert json_lines(path, grader="text")[0].grade("Two.") == 1
    with pytest.raises(SpiralError, match="tolerance is for numbers, and grader is text"):
        json_lines(path, grader="text", tolerance=0.1)


@pytest.mark.parametrize("answer", ["B", "b", "(B)", 1, "1"])
def test_options_of_every_way_to_write_the_right_one(answer, write):
    (task,) = json_lines(write([{"question": "2 + 2", "options": ["3", "4"], "answer": answer}]), grader="choice")
    assert task.prompt == "2 + 2\nA. 3\nB. 4"
    assert task.gold == "B"
    assert [task.grade(r) for r in ("B", "A", "The answer is (B).", "")] == [1, 0, 1, 0]


def test_options_that_name_no_right_one(write):
    with pytest.raises(SpiralError, match=r"line 1 has the answer 'E', and its options are A to B"):
        json_lines(write([{"question": "2 + 2", "options": ["3", "4"], "answer": "E"}]), grader="choice")
    with pytest.raises(SpiralError, match=r"line 1 has no list of options \(sought: choices, options\)"):
        json_lines(write([{"question": "2 + 2", "answer": "E"}]), grader="choice")


GPQA = {"Question": "Which?", "Correct Answer": "this", **{f"Incorrect Answer {n}": f"that {n}" for n in (1, 2, 3)}}


def test_the_order_of_options_is_the_same_everywhere(write):
    """Drawn from the question's hash, never from the process's generator: stored replies keep their grades."""
    rows = [GPQA | {"Question": f"Which {n}?"} for n in range(8)]
    tasks = json_lines(write(rows), grader="choice")
    assert [t.gold for t in tasks] == [t.gold for t in json_lines(write(rows), grader="choice")]
    assert "".join(t.gold for t in tasks) == "DCCAADDC"
    assert all(f"{t.gold}. this" in t.prompt.splitlines() for t in tasks)


def test_two_parts_hold_each_question_once(write):
    path = write([{"problem": f"{n} + 1", "answer": str(n + 1)} for n in range(200)])
    parts = [{t.prompt for t in json_lines(path, split=split)} for split in ("train", "test", "all")]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == parts[2]
    assert 20 < len(parts[1]) < 60


# Known sets


@pytest.fixture
def tiny(monkeypatch, write):
    """A known set of two questions, and its file as it was checked."""
    rows = [{"id": "a", "problem": "1 + 1", "answer": "2"}, {"id": "b", "problem": "1 + 2", "answer": "3"}]
    path = write(rows, "tiny.jsonl")
    digest = known_sets.sha256(known_sets.Path(path))
    monkeypatch.setitem(SETS, "tiny", KnownSet("Tiny", "math", 2, "the set acme/tiny of the Hugging Face Hub", digest))
    return KnownBenchmark("tiny"), path, digest


def test_a_known_set_is_read_from_its_path_or_the_folder_of_sets(tiny, monkeypatch, tmp_path):
    load, path, _ = tiny
    assert [t.id for t in load(path)] == ["a", "b"]
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert [t.id for t in load()] == ["a", "b"]
    assert load.missing() == ""


def test_without_its_file_one_sentence_says_where_to_get_it(tiny, monkeypatch, tmp_path):
    load, _, _ = tiny
    monkeypatch.delenv(FOLDER, raising=False)
    with pytest.raises(SpiralError) as told:
        load()
    assert (
        str(told.value)
        == load.missing()
        == (
            "benchmark 'tiny' needs its questions, which spiral does not bring, and SPIRAL_TASKS_DIR is not set; give path=... "
            "of the set acme/tiny of the Hugging Face Hub, or put it there as tiny.jsonl"
        )
    )
    monkeypatch.setenv(FOLDER, str(tmp_path / "empty"))
    with pytest.raises(SpiralError, match=rf"{re.escape(str(tmp_path / 'empty'))} has no tiny.jsonl"):
        load()
    with pytest.raises(SpiralError, match="benchmark 'tiny': there is no .*; give the path of the set acme/tiny"):
        load(str(tmp_path / "none.jsonl"))


def test_an_altered_file_is_refused_with_both_hashes(tiny, write):
    load, path, digest = tiny
    altered = write([{"id": "a", "problem": "1 + 1", "answer": "3"}, {"id": "b", "problem": "1 + 2", "answer": "3"}])
    with pytest.raises(
        SpiralError, match=rf"SHA-256 (?!{digest})[0-9a-f]{{64}}, and the file that was checked has {digest}"
    ):
        load(altered)
    assert [t.gold for t in load(altered, pinned=False)] == ["3", "3"]


def test_another_number_of_questions_is_refused(monkeypatch, write):
    monkeypatch.setitem(SETS, "tiny", KnownSet("Tiny", "math", 2, "the set acme/tiny"))
    path = write([{"problem": "1 + 1", "answer": "2"}])
    with pytest.raises(SpiralError, match="holds 1 questions, and the set has 2; restore it, or give pinned=false"):
        KnownBenchmark("tiny")(path)


def test_a_row_of_olympiadbench_has_its_tolerance(monkeypatch, write):
    row = {"question": "r?", "final_answer": ["4.2"], "error": "1e-1", "context": "Two towns."}
    monkeypatch.setitem(SETS, "tiny", KnownSet("Tiny", "math", 1, "the set acme/tiny"))
    (task,) = KnownBenchmark("tiny")(write([row]))
    assert task.prompt == "Two towns.\nr?"
    assert task.grader.tolerance == 0.1


def test_no_question_is_part_of_the_distribution():
    """Code and a list of names: no file of data."""
    package = known_sets.Path(known_sets.__file__).parent
    assert {p.suffix for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts} <= {".py", ".typed"}


def test_why_gpqa_is_not_brought():
    assert "ask that its questions are not put online in plain text" in KnownBenchmark("gpqa_diamond").missing(
        "/no/such"
    )
