"""The generators of reasoning-gym as benchmarks: seeded, distinct questions, graded by the generator itself."""

import base64
import pickle

import pytest

from spiral import SpiralError
from spiral.testing import check_benchmark

gym = pytest.importorskip("reasoning_gym")

from spiral_tasks.generated import GeneratedGrader, generated, generator_names  # noqa: E402
from spiral_tasks.generator_names import EXAMPLES, EXCLUDED, GENERATORS  # noqa: E402
from spiral_tasks.grading.pool import Pool, pool  # noqa: E402
from spiral_tasks.question import Question  # noqa: E402

EASY = {"max_terms": 2, "max_digits": 1}


def test_every_generator_is_listed():
    """By names of our own, since listing what is installed must not import them all."""
    from reasoning_gym.factory import DATASETS

    assert sorted(GENERATORS) == sorted(DATASETS)
    assert generator_names() == [name for name in GENERATORS if name not in EXCLUDED]


def test_it_keeps_the_promises_of_a_benchmark():
    assert check_benchmark(lambda: generated("chain_sum", size=10)) == []


def test_questions_are_seeded_and_distinct():
    one = generated("chain_sum", size=50, seed=1, **EASY)
    assert [t.prompt for t in one] == [t.prompt for t in generated("chain_sum", size=50, seed=1, **EASY)]
    assert len({t.prompt for t in one}) == len({t.id for t in one}) == 50
    assert {t.prompt for t in one} != {t.prompt for t in generated("chain_sum", size=50, seed=2, **EASY)}


def test_two_processes_ask_the_same_questions(monkeypatch):
    """Also a generator that draws from a set of strings, whose order is another one in each process."""
    prompts = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        one = Pool(1)
        prompts.append([question[1] for question in one.ask("questions", "ransom_note", '{"seed": 0}', 5, "all")])
        one.close()
    assert prompts[0] == prompts[1]


def test_more_questions_than_there_are_is_one_sentence():
    """Two digits between 0 and 9 with a sign between: two hundred."""
    with pytest.raises(SpiralError, match="has 200 distinct questions with these arguments and 300 were asked for"):
        generated("chain_sum", size=300, **EASY)


def test_the_parts_share_no_question_whatever_the_seeds():
    train = {t.prompt for t in generated("chain_sum", size=100, seed=1, split="train", **EASY)}
    test = {t.prompt for t in generated("chain_sum", size=20, seed=2, split="test", **EASY)}
    assert not train & test


def test_the_generator_grades():
    """Other spellings of the number are right; a boxed answer is read."""
    task = generated("chain_sum", size=1, seed=3)[0]
    assert [
        task.grade(r) for r in (task.gold, f"{task.gold}.0", f"so \\boxed{{{task.gold}}}", task.gold + "1", "")
    ] == [1, 1, 1, 0, 0]


def test_words_around_an_answer():
    """A model that was not asked for a box, or does not know it, says an equation or a sentence: what it ends with is
    graded. A box is all that counts where there is one."""
    task = generated("chain_sum", size=1, seed=3)[0]
    right, wrong = task.gold, str(int(task.gold) + 1)
    replies = [f"{wrong} - 1 = {right}", f"First {wrong}.\nThe answer is {right}.", f"so we get\n{right}"]
    assert [task.grade(reply) for reply in replies] == [1, 1, 1]
    replies = [
        f"{right} = {wrong}",
        f"{right} or {wrong}",
        f"{right} = {right}, so \\boxed{{{wrong}}}",
        f"{right} it is",
    ]
    assert [task.grade(reply) for reply in replies] == [0, 0, 0, 0]


def test_a_value_without_its_rule_is_wrong():
    """reasoning-gym#265: the target by itself, or by numbers that were not given."""
    task = generated("countdown", size=1, seed=0)[0]
    target = task.prompt.split()[1]
    assert [task.grade(r) for r in (task.gold, target, f"{target}+1-1")] == [1, 0, 0]


def test_countdown_by_hand():
    """12 of 2, 3 and 7, each once: other numbers, one left out, and one used twice are wrong, whatever they come to."""
    numbers = {"question": "?", "answer": "2+3+7", "metadata": {"numbers": [2, 3, 7], "target": 12}}
    entry = base64.b64encode(pickle.dumps(numbers)).decode("ascii")
    task = Question("q", "?", "2+3+7", GeneratedGrader("countdown", '{"seed": 0}', entry, partial=False))
    replies = ("7 + 2 + 3", "12", "6+6", "5+7", "2+3+7+2-2", "7-3*2")
    assert [task.grade(reply) for reply in replies] == [1, 0, 0, 0, 0, 0]


def test_credit_for_parts_is_asked_for():
    """By default only full marks count: some generators give every nonsense a share."""
    args = {"size": 1, "seed": 0}
    (whole,), (part,) = (generated("word_sorting", partial=partial, **args) for partial in (False, True))
    assert whole.gold == part.gold
    wrong = ", ".join(reversed(whole.gold.split(", ")))
    assert whole.grade(wrong) == 0
    assert 0 < part.grade(wrong) < 1


def test_unknown_generators_and_arguments_are_one_sentence():
    with pytest.raises(SpiralError, match="reasoning-gym has no generator 'chain_sums'"):
        generated("chain_sums")
    with pytest.raises(
        SpiralError, match=r"reasoning_gym/chain_sum: .*'terms'; its own arguments are: min_terms, max_terms"
    ):
        generated("chain_sum", terms=3)
    with pytest.raises(SpiralError, match="reasoning_gym/chain_sum: max_terms must be >= min_terms"):
        generated("chain_sum", min_terms=5, max_terms=2)
    assert generated("chain_sum", size=1, max_terms=2, allow_negation=True)
    for name in EXCLUDED:
        with pytest.raises(SpiralError, match=f"reasoning_gym/{name} cannot be asked here: it"):
            generated(name)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("chain_sum", {"max_terms": "two"}, 'max_terms is "two", and has to be a whole number'),
        ("chain_sum", {"max_terms": 2.5}, "max_terms is 2.5, and has to be a whole number"),
        ("chain_sum", {"max_terms": None}, "max_terms is null, and has to be a whole number"),
        ("chain_sum", {"max_terms": True}, "max_terms is true, and has to be a whole number"),
        ("chain_sum", {"allow_negation": "yes"}, 'allow_negation is "yes", and has to be true or false'),
        ("countdown", {"operators": 3}, "operators is 3, and has to be a list"),
        ("countdown", {"operators": [5]}, "invalid operator specified"),
        ("spell_backward", {"data_file": "no.txt"}, r"FileNotFoundError: .*no\.txt.*"),
    ],
)
def test_an_argument_of_a_wrong_type_is_one_sentence(name, given, says):
    """And not what the generator's own code stumbles over, at once or when it makes a question."""
    with pytest.raises(SpiralError, match=f"^reasoning_gym/{name}: {says}; its own arguments are: [a-z_, ]+$"):
        generated(name, size=2, **given)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_question_with_many_answers_has_one_of_them_as_gold(name):
    """Which the generator itself says is right."""
    task = generated(name, size=1)[0]
    grader = task.grader
    assert pool().ask("generated", grader.generator, grader.config, grader.entry, task.gold) == 1
    assert task.grade("None") == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", generator_names())
def test_conformance_of_each_generator(name):
    assert check_benchmark(lambda: generated(name, size=5)) == []
