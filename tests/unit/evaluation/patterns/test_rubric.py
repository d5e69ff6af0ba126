"""Rubrics: the paper's three patterns, those of a user's file beside them, and a sentence for every fault of a file."""

import pytest

from spiral.api.errors import SpiralError
from spiral.evaluation.patterns.rubric import read_rubrics

OWN = "patterns: [{name: backtracking, description: 'takes a step back', question: 'does it go back?'}]"


@pytest.fixture
def write(tmp_path):
    def make(text, name="own.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def test_the_papers_three_patterns_are_built_in(said):
    patterns = read_rubrics(())
    assert [pattern.name for pattern in patterns] == said.paper
    assert all(pattern.description != pattern.question for pattern in patterns)


def test_a_users_patterns_come_behind_the_papers_or_alone(write, said):
    path = write(OWN)
    assert [pattern.name for pattern in read_rubrics((path,))] == [*said.paper, "backtracking"]
    assert [pattern.name for pattern in read_rubrics((path,), own_only=True)] == ["backtracking"]


def test_without_a_question_the_description_stands_in_both_wordings(write):
    [pattern] = read_rubrics((write("patterns:\n- name: a\n  description: >\n    b\n    c\n"),), own_only=True)
    assert (pattern.name, pattern.description, pattern.question) == ("a", "b c", "b c")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("patterns: [", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
        ("", "has no list of patterns"),
        ("- a", "has no list of patterns"),
        ("patterns: {}", "has no list of patterns"),
        ("patterns: []", "has no list of patterns"),
        (f"{OWN}\nmore: 1", "has the key 'more'"),
        ("patterns: [one]", "pattern 1 is str, no mapping"),
        ("patterns: [{name: a}]", "pattern 1 has no description"),
        ("patterns: [{description: a}]", "pattern 1 has no name"),
        ("patterns: [{name: a, description: b, weight: 2}]", "has the key 'weight'"),
        ("patterns: [{name: 3, description: b}]", "a name that is no text"),
        ("patterns: [{name: ' ', description: b}]", "a name that is no text"),
        ("patterns: [{name: a, description: null}]", "a description that is no text"),
        (f"patterns: [{{name: {'a' * 81}, description: b}}]", "81 characters"),
        ("patterns: [{name: Pattern Recognition, description: b}]", "which the paper's rubric has too"),
        ("patterns: [{name: a, description: b}, {name: A, description: c}]", "give it another name"),
        (f"patterns: {[{'name': f'n{n}', 'description': 'd'} for n in range(22)]}", "at most 24"),
    ],
)
def test_a_fault_of_a_rubric_is_a_sentence(write, text, says):
    with pytest.raises(SpiralError, match=says):
        read_rubrics((write(text),))


def test_every_fault_is_told_at_once(write, tmp_path):
    faulty = write("patterns: [{name: a}, {description: b}]")
    with pytest.raises(SpiralError) as error:
        read_rubrics((faulty, tmp_path / "none.yaml"))
    lines = str(error.value).splitlines()
    assert ["pattern 1" in lines[0], "pattern 2" in lines[1], "cannot be read" in lines[2]] == [True] * 3


def test_no_pattern_at_all_is_a_sentence():
    with pytest.raises(SpiralError, match="no pattern to look for"):
        read_rubrics((), own_only=True)
