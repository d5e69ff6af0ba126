"""The mathematics of a cross-play table: hand arithmetic, known truths recovered, intervals that cover, equilibria."""

import math

import numpy as np
import pytest

from spiral.theory.bootstrap import Block, percentiles, resampled, totals
from spiral.theory.bradley_terry import ELO, bradley_terry, expected_scores, least_squares
from spiral.theory.intervals import mean_interval, plausible_range, score_interval, wilson_interval
from spiral.theory.nash_averaging import circles, cycles, nash_average, strength

ROCK_PAPER_SCISSORS = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])


def block(pair, scores, games=1):
    """One pair's deals from mean scores; a win is worth 1 point."""
    column = np.array(scores, dtype=float)[:, None]
    return Block((pair,), column * games, (2 * column - 1) * games, np.full_like(column, games))


# Intervals of one pair


@pytest.mark.parametrize(("wins", "games"), [(7, 10), (0, 10), (10, 10), (1, 3), (50, 100)])
def test_of_wins_and_losses_the_interval_is_wilsons(wins, games):
    mean, low, high = score_interval([1.0] * wins + [0.0] * (games - wins))
    assert mean == wins / games
    assert (low, high) == pytest.approx(wilson_interval(wins, games))


def test_a_score_interval_by_hand():
    """4 deals that all ended in a draw: no variance, so the middle is 1/2 and the half width z*z/2 / (4 + z*z)."""
    z = 1.959964
    half = z * z / 2 / (4 + z * z)
    assert score_interval([0.5] * 4) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert score_interval([]) == (0.5, 0.0, 1.0)


def test_draws_tell_more_than_wins_and_losses():
    """Equal means: the scores that vary less have the narrower interval."""
    _, low, high = score_interval([1, 0] * 10)
    _, drawn_low, drawn_high = score_interval([0.5] * 18 + [1, 0])
    assert drawn_high - drawn_low < 0.6 * (high - low)


def _deals(kind, rng, size):
    """(scores, true mean) of deals of one kind."""
    if kind == "even":
        return rng.integers(0, 2, size).astype(float), 0.5
    if kind == "mostly drawn":
        return rng.choice([0, 0.5, 1], p=[0.15, 0.6, 0.25], size=size), 0.55
    if kind == "lopsided":
        return rng.choice([0, 0.5, 1], p=[0.02, 0.08, 0.9], size=size), 0.94
    luck = 2 * rng.normal(size=size)  # a good hand helps whoever holds it, and both hold it once
    chances = [1 / (1 + np.exp(-(0.5 + sign * luck))) for sign in (1, -1)]
    grid = 2 * rng.normal(size=400_000)
    truth = float(np.mean(1 / (1 + np.exp(-(0.5 + grid)))))
    return sum((rng.random(size) < chance).astype(float) for chance in chances) / 2, truth


@pytest.mark.parametrize("kind", ["even", "mostly drawn", "lopsided", "paired deals"])
@pytest.mark.parametrize("num_deals", [20, 100])
def test_score_intervals_cover_the_truth(kind, num_deals):
    """Of 3000 intervals of 95%, from 92% to 99.5% hold the true score: Wilson's own coverage swings by 2 points with the
    share and the number, and draws make it cautious."""
    rng = np.random.default_rng(3)
    scores, truth = _deals(kind, rng, (3000, num_deals))
    covered = [low <= truth <= high for _, low, high in map(score_interval, scores)]
    assert 0.92 <= np.mean(covered) <= 0.995


SKEWED = {
    "a rare loss": ((-2.0, 0.2), (0.05, 0.95)),
    "a rare win": ((2.0, -0.1), (0.03, 0.97)),
    "nearly always won": ((1.0, -1.0), (0.97, 0.03)),
    "a poker": ((-2.0, -1.0, 1.0, 2.0), (0.1, 0.45, 0.3, 0.15)),
}


@pytest.mark.parametrize("returns", SKEWED)
@pytest.mark.parametrize("num_games", [2, 10, 30])
def test_mean_intervals_of_few_games_cover_skewed_returns(returns, num_games):
    """2,000 intervals of 95%: at least 93% hold the mean of returns that are seldom large, between -2 and 2. Mean +-
    1.96 standard errors hold it in as few as 6% for 2 games, since most samples show no variance at all."""
    values, shares = SKEWED[returns]
    mean = sum(value * share for value, share in zip(values, shares, strict=True))
    rng = np.random.default_rng(num_games)
    held = 0
    for _ in range(2000):
        _, low, high = mean_interval(rng.choice(values, num_games, p=shares), -2.0, 2.0)
        held += low <= mean <= high
    assert held / 2000 >= 0.93


def test_no_variance_is_no_certainty():
    """One game, and 20 of 20 that were won, leave an interval of some width; of returns whose bounds are not known, too."""
    for deals in ([1.0], [1.0] * 20):
        _, low, high = mean_interval(deals, -1.0, 1.0)
        assert low < 0.85
        assert high == 1.0
    assert plausible_range([1.0, 1.0]) == (0.0, 2.0)
    assert plausible_range([1.0, 1.0], -1.0) == (-1.0, 1.0)
    assert plausible_range([0.0], 0.0) == (0.0, 1.0)
    assert plausible_range([-3.0, 0.5], -1.0, 1.0) == (-3.0, 1.0)
    with pytest.raises(ValueError, match="no room"):
        mean_interval([1.0], 1.0, 1.0)


def test_mean_intervals_cover_and_know_that_equal_deals_prove_little():
    """Chips won in a poker: 95% intervals of 50 deals; and 20 equal deals leave an interval of some width."""
    rng = np.random.default_rng(4)
    chips = np.array([-2.0, -1, 1, 2])
    chances = [0.3, 0.2, 0.3, 0.2]
    truth = float(chips @ chances)
    samples = rng.choice(chips, p=chances, size=(3000, 50))
    covered = [low <= truth <= high for _, low, high in (mean_interval(s, -2, 2) for s in samples)]
    assert 0.93 <= np.mean(covered) <= 0.98
    mean, low, high = mean_interval([1.0] * 20, -2, 2)
    assert (mean, high - low > 0.3) == (1.0, True)


# Strengths


def test_two_players_by_hand():
    """30 wins of 40: odds of 3 to 1, so the strengths differ by ln 3, which is 190.8 points."""
    strengths = bradley_terry(np.array([[0.0, 30], [10, 0]]), prior=1e-12)
    assert strengths == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    assert ELO * (strengths[0] - strengths[1]) == pytest.approx(190.848, abs=1e-3)


def test_a_draw_is_half_a_win_for_both():
    drawn = totals([block((0, 1), [0.5] * 10)], 2)
    shared = totals([block((0, 1), [1, 0] * 5)], 2)
    assert np.array_equal(drawn.wins, shared.wins)


def test_strengths_that_fit_exactly_are_found_exactly():
    """Results in just the proportions that strengths predict, each pair met another number of times."""
    true = np.array([1.2, 0.3, -0.4, -1.1])
    games = np.array([[0, 8, 2, 5], [8, 0, 6, 1], [2, 6, 0, 9], [5, 1, 9, 0.0]])
    assert bradley_terry(games * expected_scores(true), prior=1e-12) == pytest.approx(true, abs=1e-6)


def test_the_likelihood_is_at_its_maximum():
    """Random tables, some pairs of which never met: each player's wins are those that its strength predicts, but for
    the prior's drawn games against strength 0."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        wins = rng.poisson(2.0, size=(6, 6)) * (rng.random((6, 6)) < 0.6) * 1.0
        np.fill_diagonal(wins, 0)
        strengths = bradley_terry(wins, prior=0.5)
        games = wins + wins.T
        raw = strengths - _shift(strengths, 0.5, wins)
        predicted = (games * expected_scores(raw)).sum(1) + 0.5 / (1 + np.exp(-raw))
        assert predicted == pytest.approx(wins.sum(1) + 0.25, abs=1e-6)


def _shift(strengths, prior, wins):
    """What `bradley_terry` took off to make the mean 0: summed over players, the prior's games must balance."""
    low, high = -20.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(middle - strengths)) - 0.5).sum() > 0 else (low, middle)
    return low


def test_an_unbeaten_player_has_a_finite_strength():
    """The prior holds it: above all others, and not by more than 100,000 to 1."""
    strengths = bradley_terry(np.array([[0.0, 50, 50], [0, 0, 30], [0, 20, 0]]))
    assert strengths[0] - strengths[1] > 5
    assert np.isfinite(strengths).all()
    assert strengths.max() - strengths.min() < math.log(1e5)


def test_many_tables_at_once_are_each_table_alone():
    rng = np.random.default_rng(1)
    tables = rng.poisson(4, size=(7, 5, 5)) * (1 - np.eye(5))
    assert bradley_terry(tables) == pytest.approx(np.array([bradley_terry(t) for t in tables]), abs=1e-8)


def _simulated(rng, true, num_deals, games=2):
    """A round robin of players of given strengths."""
    blocks = []
    for one in range(len(true)):
        for other in range(one + 1, len(true)):
            chance = 1 / (1 + math.exp(true[other] - true[one]))
            scores = (rng.random((num_deals, games)) < chance).mean(1)
            blocks.append(block((one, other), scores, games))
    return blocks


def test_known_strengths_are_recovered():
    """30 players, 20 games a pair: correlation above 0.99 with the truth, and no bias in the spread."""
    rng = np.random.default_rng(2)
    true = rng.normal(size=30)
    found = bradley_terry(totals(_simulated(rng, true, 10), 30).wins)
    assert np.corrcoef(found, true)[0, 1] > 0.99
    assert np.polyfit(true, found, 1)[0] == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("spread", "num_deals"), [(0.5, 40), (1.5, 15)])
def test_intervals_of_strengths_cover_the_truth(spread, num_deals):
    """60 tournaments of 5 players: from 90% to 99% of the 300 intervals hold the truth."""
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(60):
        true = rng.normal(size=5) * spread
        true -= true.mean()
        blocks = _simulated(rng, true, num_deals)
        low, high = percentiles(bradley_terry(resampled(blocks, 5, 200, rng).wins))
        covered += list((low <= true) & (true <= high))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_the_bootstrap_draws_deals_and_not_games():
    """Two games a deal whose luck cancels: each deal's score is 1/2, so only the doubt moves the sum."""
    rng = np.random.default_rng(6)
    cancelling = resampled([block((0, 1), [0.5] * 200, 2)], 2, 500, rng)
    lone = resampled([block((0, 1), [1, 0] * 200, 1)], 2, 500, rng)
    assert np.ptp(cancelling.games[:, 0, 1]) < 15
    assert cancelling.wins[:, 0, 1].std() < 2 < 8 < lone.wins[:, 0, 1].std()


def test_the_bootstrap_doubts_an_unbeaten_player():
    """50 wins of 50: 95% of the samples must reach down to where such luck is 5% likely, and not much below."""
    samples = resampled([block((0, 1), [1.0] * 50)], 2, 4000, np.random.default_rng(7))
    share = samples.wins[:, 0, 1] / samples.games[:, 0, 1]
    assert 0.90 < np.percentile(share, 2.5) < 0.97


def test_worth_by_least_squares():
    """Margins that are differences are recovered; after a full round robin, worth is the mean margin."""
    true = np.array([0.5, 0.1, -0.6])
    games = np.array([[0, 4, 2], [4, 0, 9], [2, 9, 0.0]])
    assert least_squares((true[:, None] - true) * games, games, prior=1e-9) == pytest.approx(true, abs=1e-6)
    rng = np.random.default_rng(8)
    margins = rng.normal(size=(4, 4))
    margins -= margins.T
    full = np.full((4, 4), 10.0) - 10 * np.eye(4)
    # The mean over all four, its own 0 included.
    assert least_squares(margins * 10, full, prior=1e-9) == pytest.approx(margins.sum(1) / 4, abs=1e-6)


# The Nash average


def test_rock_paper_scissors_is_uniform():
    assert nash_average(ROCK_PAPER_SCISSORS) == pytest.approx([1 / 3] * 3, abs=1e-8)
    assert nash_average(1e-3 * ROCK_PAPER_SCISSORS) == pytest.approx([1 / 3] * 3, abs=1e-8)


def test_a_biased_rock_paper_scissors_by_hand():
    """Payoffs a, b, c of rock over scissors, paper over rock, scissors over paper: weights c, a, b over their sum."""
    a, b, c = 1.0, 2.0, 3.0
    payoffs = np.array([[0, -b, a], [b, 0, -c], [-a, c, 0]])
    assert nash_average(payoffs) == pytest.approx([c / 6, a / 6, b / 6], abs=1e-8)


def test_a_player_entered_twice_shares():
    """Two rocks have a sixth each, paper and scissors a third as before."""
    twice = [0, 0, 1, 2]
    assert nash_average(ROCK_PAPER_SCISSORS[np.ix_(twice, twice)]) == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 3])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_on_a_ladder_the_top_has_everything(size):
    rungs = np.arange(size, dtype=float)
    assert nash_average(rungs[:, None] - rungs) == pytest.approx([0.0] * (size - 1) + [1.0], abs=1e-8)


def test_a_player_who_beats_a_cycle_has_everything():
    payoffs = np.zeros((4, 4))
    payoffs[:3, :3] = ROCK_PAPER_SCISSORS
    payoffs[3, :3], payoffs[:3, 3] = 0.01, -0.01
    assert nash_average(payoffs) == pytest.approx([0, 0, 0, 1], abs=1e-6)


def test_of_many_equilibria_the_one_of_largest_entropy():
    """All draws: uniform. Two cycles that draw with each other: uniform. A draws with B, A beats C, C beats B: any
    (x, 1-x, 0) with x >= 1/2 is an equilibrium, and 1/2 has the largest entropy."""
    assert nash_average(np.zeros((4, 4))) == pytest.approx([0.25] * 4)
    assert nash_average(np.kron(np.eye(2), ROCK_PAPER_SCISSORS)) == pytest.approx([1 / 6] * 6, abs=1e-8)
    edge = np.array([[0, 0, 0.5], [0, 0, -0.5], [-0.5, 0.5, 0]])
    assert nash_average(edge) == pytest.approx([0.5, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize("size", [4, 9, 30])
def test_nobody_beats_the_nash_average(size):
    """Random games, of real and of whole payoffs: a best response gains less than 1e-7, which is an equilibrium."""
    rng = np.random.default_rng(size)
    for trial in range(10):
        payoffs = rng.normal(size=(size, size))
        payoffs = np.round(payoffs) if trial % 2 else payoffs
        payoffs = payoffs - payoffs.T
        weights = nash_average(payoffs)
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
        assert (payoffs @ weights).max() < 1e-7


# Cycles


def _beats(size, *edges):
    table = np.zeros((size, size), dtype=bool)
    for one, other in edges:
        table[one, other] = True
    return table


def test_cycles_of_three_are_named_strongest_first():
    """0 beats 1 beats 2 beats 0 and 1 beats 2 beats 3 beats 1: by the weakest win, 0.6 and 0.7."""
    beats = _beats(4, (0, 1), (1, 2), (2, 0), (2, 3), (3, 1))
    scores = np.full((4, 4), 0.5)
    scores[0, 1], scores[1, 2], scores[2, 0], scores[2, 3], scores[3, 1] = 0.9, 0.8, 0.6, 0.7, 0.75
    assert cycles(beats, scores) == [[1, 2, 3], [0, 1, 2]]
    assert [strength(ring, scores) for ring in cycles(beats, scores)] == [0.7, 0.6]


def test_a_ladder_has_no_cycle():
    ladder = _beats(4, *((i, j) for i in range(4) for j in range(i)))
    assert cycles(ladder, np.full((4, 4), 0.5)) == []
    assert circles(ladder) == []


def test_a_longer_cycle_is_found_where_none_of_three_is():
    """A ring of four, whose diagonals are even, beside a player who beats all of them."""
    ring = _beats(5, (0, 2), (2, 1), (1, 3), (3, 0), (4, 0), (4, 1), (4, 2), (4, 3))
    assert cycles(ring, np.full((5, 5), 0.5)) == [[0, 2, 1, 3]]
    assert circles(ring) == [[0, 1, 2, 3]]
