"""Cohen's kappa and the interval of a difference of proportions, against values computed by hand or published."""

import random

import pytest

from spiral.theory.agreement import agreement, cohen_kappa
from spiral.theory.intervals import difference_interval


def judged(both, first_only, second_only, neither):
    """Two judges' answers, from the four counts."""
    pairs = [(True, True)] * both + [(True, False)] * first_only
    pairs += [(False, True)] * second_only + [(False, False)] * neither
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ((20, 5, 10, 15), 0.4),  # agree .7; by chance .5 * .6 + .5 * .4 = .5; .2 / .5
        ((45, 15, 25, 15), 0.06 / 0.46),  # agree .6; by chance .6 * .7 + .4 * .3 = .54
        ((5, 0, 0, 5), 1.0),
        ((0, 5, 5, 0), -1.0),  # agree 0; by chance .5
        ((3, 3, 0, 0), 0.0),  # the first judge always says yes: no agreement beyond chance is possible
        ((1, 1, 1, 1), 0.0),
    ],
)
def test_kappa_is_agreement_beyond_chance_as_a_share_of_what_chance_leaves(counts, kappa):
    """(p_o - p_e) / (1 - p_e), worked out by hand from the four counts."""
    assert cohen_kappa(*judged(*counts)) == pytest.approx(kappa)
    assert agreement(*judged(*counts), seed=0).kappa == pytest.approx(kappa)


@pytest.mark.parametrize("counts", [(7, 0, 0, 0), (0, 0, 0, 7)])
def test_kappa_of_judges_that_say_one_and_the_same_of_all_is_not_defined(counts):
    """Chance alone would agree as often: 0 / 0, and neither 1 nor 0. Its interval is wide."""
    assert cohen_kappa(*judged(*counts)) is None
    found = agreement(*judged(*counts), seed=0)
    assert (found.num, found.agreement, found.kappa) == (7, 1.0, None)
    assert found.low < 0.1
    assert found.high > 0.9


def test_without_items_there_is_no_agreement():
    found = agreement([], [], seed=0)
    assert (found.num, found.agreement, found.kappa, found.low, found.high) == (0, 0.0, None, None, None)


def test_judges_must_judge_the_same_items():
    with pytest.raises(ValueError, match="3 and 2 items"):
        cohen_kappa([True, True, False], [True, False])


def test_the_interval_is_that_of_a_bootstrap_over_items():
    """It holds kappa, narrows with more items, is the same for the same seed, and of judges that never differed it is not
    a single point."""
    small, large = agreement(*judged(20, 5, 10, 15), seed=1), agreement(*judged(200, 50, 100, 150), seed=1)
    assert small.low < large.low < 0.4 < large.high < small.high
    assert small == agreement(*judged(20, 5, 10, 15), seed=1)
    perfect = agreement(*judged(10, 0, 0, 10), seed=1)
    assert perfect.low < 0.95
    assert perfect.high == 1.0


def test_the_interval_holds_the_true_kappa_about_as_often_as_it_says():
    """Of 200 samples of 60 items from judges whose true kappa is .4, at least 180 intervals hold it."""
    rng, held = random.Random(5), 0
    for n in range(200):
        drawn = rng.choices([(True, True), (True, False), (False, True), (False, False)], [20, 5, 10, 15], k=60)
        found = agreement([a for a, _ in drawn], [b for _, b in drawn], seed=n)
        held += found.low <= 0.4 <= found.high
    assert held >= 180


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 10), 0.6075, 1.0)],
)
def test_the_interval_of_a_difference_is_newcombes(counts, low, high):
    """Newcombe (1998), table II, method 10."""
    assert difference_interval(*counts) == pytest.approx((low, high), abs=1e-4)


def test_a_difference_from_nothing_may_be_anything():
    assert difference_interval(3, 5, 0, 0) == (-1.0, 1.0)
