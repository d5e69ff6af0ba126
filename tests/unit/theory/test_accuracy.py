"""Accuracy, pass@k and means of benchmarks, against values by hand."""

import math
from itertools import combinations

import pytest

from spiral.theory.accuracy import accuracy, mean_of_means, pass_at_k
from spiral.theory.intervals import score_interval, wilson_interval


@pytest.mark.parametrize(
    ("num", "correct", "k", "value"), [(4, 1, 2, 0.5), (5, 0, 5, 0.0), (3, 3, 1, 1.0), (32, 8, 1, 0.25)]
)
def test_pass_at_k_by_hand(num, correct, k, value):
    assert pass_at_k(num, correct, k) == pytest.approx(value)


def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_reply():
    """Of all ways to draw 3 of 7 replies of which 2 are right."""
    draws = list(combinations([1, 1, 0, 0, 0, 0, 0], 3))
    assert pass_at_k(7, 2, 3) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_needs_k_replies():
    """164 questions with one reply each tell nothing of pass@10."""
    with pytest.raises(ValueError, match="pass@10 cannot be estimated from 1 replies"):
        pass_at_k(1, 1, 10)


def test_the_interval_is_wilsons_where_a_question_is_asked_once():
    shares = [1.0] * 50 + [0.0] * 114
    mean, low, high = accuracy(shares, once=True)
    assert mean == pytest.approx(50 / 164)
    assert (low, high) == pytest.approx(wilson_interval(50, 164))


def test_the_interval_is_over_questions_where_each_is_asked_often():
    """Two questions, one always right and one never, are two observations however often they are asked."""
    assert accuracy([1.0, 0.0], once=False) == pytest.approx(score_interval([1.0, 0.0]))
    assert accuracy([], once=False) == (0.0, 0.0, 1.0)


def test_the_mean_over_benchmarks_has_its_own_error():
    """10 and 1000 questions, half right in each: the error of the unweighted mean is sqrt(s1^2 + s2^2) / 2 = 0.084 with
    n - 1 in the variance, and not the 0.016 of all questions in one pot."""
    mean, low, high = mean_of_means([[1.0, 0.0] * 5, [1.0, 0.0] * 500])
    assert mean == 0.5
    error = math.sqrt(0.25 * 10 / 9 / 10 + 0.25 * 1000 / 999 / 1000) / 2
    assert error == pytest.approx(0.084, abs=5e-4)
    assert (low, high) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=1e-4)


def test_benchmarks_that_were_all_right_are_not_certain():
    """A value at each bound is added: 30 right of 30 have an error of sqrt(1 / 32 / 32)."""
    mean, low, high = mean_of_means([[1.0] * 30])
    assert (mean, high) == (1.0, 1.0)
    assert low == pytest.approx(1 - 1.96 / 32, abs=1e-3)
    with pytest.raises(ValueError, match="at least one"):
        mean_of_means([[1.0], []])
