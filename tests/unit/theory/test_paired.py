"""McNemar's exact test and the paired bootstrap, against values by hand."""

import pytest

from spiral.theory.paired import mcnemar, paired


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(9, 1, 2 * 11 / 1024), (1, 9, 2 * 11 / 1024), (5, 5, 1.0), (0, 0, 1.0), (6, 0, 2 / 64), (3, 2, 1.0)],
)
def test_mcnemar_by_hand(better, worse, p):
    """A two-sided binomial test of the questions that differ, never above 1."""
    assert mcnemar(better, worse) == pytest.approx(p)


def test_the_difference_counts_questions():
    """Ten questions, of which the second gets three that the first does not, and misses one."""
    first = [1, 0, 0, 0, 1, 1, 0, 0, 1, 0]
    second = [0, 1, 1, 1, 1, 1, 0, 0, 1, 0]
    found = paired(first, second, once=True, seed=0)
    assert (found.mean, found.better, found.worse) == (pytest.approx(0.2), 3, 1)
    assert found.p_value == pytest.approx(2 * (1 + 4) / 16)
    assert found.low < 0 < found.high
    back = paired(second, first, once=True, seed=0)
    assert (back.mean, back.better, back.worse, back.p_value) == (pytest.approx(-0.2), 1, 3, found.p_value)


def test_the_interval_is_that_of_paired_questions():
    """400 questions, a quarter better and an eighth worse: 0.125 +- 1.96 sqrt((3/8 - 1/64) / 400), to the error of a
    bootstrap. The same seed gives the same interval."""
    second = [1.0] * 100 + [0.0] * 50 + [0.5] * 250
    first = [0.0] * 100 + [1.0] * 50 + [0.5] * 250
    found = paired(first, second, once=False, seed=3)
    half = 1.96 * ((3 / 8 - 1 / 64) / 400) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.125 - half, 0.125 + half), abs=0.008)
    assert found.p_value is None
    assert paired(first, second, once=False, seed=3) == found


def test_policies_that_never_differ_are_not_certain_to_be_equal():
    found = paired([1.0] * 30, [1.0] * 30, once=True, seed=0)
    assert found.mean == 0
    assert -0.12 < found.low < -0.02
    assert 0.02 < found.high < 0.12


def test_a_difference_needs_a_question():
    with pytest.raises(ValueError, match="at least one question"):
        paired([], [], once=True, seed=0)
