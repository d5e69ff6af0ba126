"""What a run trains on it does not evaluate by: questions are compared by their text."""

import random
from types import SimpleNamespace

import pytest

from spiral.api.errors import ConfigError
from spiral.evaluation.contamination import fingerprint, overlap, questions, refuse_overlap


def tasks(*prompts):
    return [SimpleNamespace(id=str(n), prompt=prompt, gold="1") for n, prompt in enumerate(prompts)]


@pytest.mark.parametrize(
    "same",
    ["what is  $1 + 1$?", "What is\n1+1", "WHAT IS 1 + 1 ?", r"What is $1\,+\,1$?", "What is １ + １?"],
)
def test_one_question_in_other_letters(same):
    assert fingerprint(same) == fingerprint("What is 1 + 1?")


@pytest.mark.parametrize("other", ["What is 1 - 1?", "What is 1.1?", "What is 11?", "What is 1 + 1 + 1?", ""])
def test_another_question(other):
    assert fingerprint(other) != fingerprint("What is 1 + 1?")


def test_what_is_shared_is_counted_by_game_and_benchmark():
    trained = {"tasks/a": tasks("1 + 1", "2 + 2", "3 + 3"), "kuhn_poker": questions(object())}
    evaluated = {"b": tasks("2+2", "4+4", "3 + 3 ="), "c": tasks("5 + 5")}
    (found,) = overlap(trained, evaluated)
    assert (found.game, found.benchmark, found.num_shared, found.num_evaluated, found.example) == (
        "tasks/a",
        "b",
        2,
        3,
        "2+2",
    )


def test_a_run_that_evaluates_what_it_trains_on_is_refused():
    refuse_overlap({"tasks/a": tasks("1 + 1")}, {"b": tasks("2 + 2")})
    with pytest.raises(ConfigError) as told:
        refuse_overlap({"tasks/a": tasks("1 + 1")}, {"b": tasks("1 + 1", "2 + 2")})
    assert str(told.value) == (
        "games: tasks/a trains on 1 of the 2 questions that evaluate.tasks asks of b, such as '1 + 1'; train on other "
        "questions, such as those of split=train, and evaluate those of split=test"
    )


def test_a_long_question_is_cut_in_the_sentence():
    prompt = " ".join(map(str, random.Random(0).choices(range(10), k=100)))
    with pytest.raises(ConfigError, match=r"such as '[\d ]{60}\.\.\.'; train"):
        refuse_overlap({"g": tasks(prompt)}, {"b": tasks(prompt)})
