"""Estimators against the exact policy gradient of Kuhn poker: bias and variance without a single sample.

The policy is a softmax of one logit a (observation, move). The truth is the derivative of each player's value
in the logits of its own decisions, by finite differences of `values`, which knows nothing of estimators. With
it is compared the expectation of sum_turns advantage * grad log pi(move), by going through every batch that
can occur, weighted with its probability: single games, pairs of games, or groups of games of one deal.
"""

import itertools
import math
import random
from collections import defaultdict

import pytest
from spiral_advantages.grpo import Grpo
from spiral_advantages.rae import Rae
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.rloo import Rloo
from spiral_games.kuhn_poker import KuhnPoker

from spiral.theory import GameTree, outcomes, values
from spiral.types import LEARNER, Trajectory, Turn

TREE = GameTree.of(KuhnPoker())
PARAMETERS = [(d.observation, move) for d in TREE.decisions for move in d.moves]


def softmax(logits):
    table = {}
    for d in TREE.decisions:
        weights = {move: math.exp(logits[d.observation, move]) for move in d.moves}
        table[d.observation] = {move: w / sum(weights.values()) for move, w in weights.items()}
    return table


def random_logits(seed):
    rng = random.Random(seed)
    return {parameter: rng.gauss(0, 1) for parameter in PARAMETERS}


UNIFORM = dict.fromkeys(PARAMETERS, 0.0)
POLICIES = [UNIFORM, random_logits(1), random_logits(2)]


def exact_gradient(logits):
    """d value of the player / d logit, five-point stencil: error about h^4, here 1e-12."""
    gradient, h = {}, 1e-3
    for d in TREE.decisions:
        for move in d.moves:
            at = {}
            for k in (-2, -1, 1, 2):
                moved = logits | {(d.observation, move): logits[d.observation, move] + k * h}
                at[k] = values(TREE, softmax(moved))[d.player]
            gradient[d.observation, move] = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
    return gradient


def trajectories(outcome):
    """What the two seats of one outcome look like to an estimator."""
    found = []
    for player in range(2):
        turns = [Turn(seen, (), (), (), move, True, "stop", 0) for who, seen, move in outcome.moves if who == player]
        found.append(Trajectory("kuhn", player, LEARNER, outcome.returns[player], tuple(turns), outcome.deal))
    return found


def estimate(make, batch, table):
    """One batch's gradient, a mean over its games; `make` builds the estimator anew for each."""
    games = [t for outcome in batch for t in trajectories(outcome)]
    gradient = defaultdict(float)
    for t, credit in zip(games, make()(games), strict=True):
        for turn, advantage in zip(t.turns, credit, strict=True):
            for move, p in table[turn.observation].items():
                score = (move == turn.move) - p
                gradient[turn.observation, move] += advantage * score / len(batch)
    return gradient


def all_batches(table, size, same_deal):
    """Every batch of `size` games with its probability; with `same_deal`, the deal is drawn once for all."""
    found = list(outcomes(TREE, table))
    if not same_deal:
        for batch in itertools.product(found, repeat=size):
            yield math.prod(o.probability for o in batch), batch
        return
    for deal, (chance, _) in enumerate(TREE.roots):
        of_deal = [o for o in found if o.deal == deal]
        for batch in itertools.product(of_deal, repeat=size):
            yield chance * math.prod(o.probability / chance for o in batch), batch


def moments(make, logits, size=1, same_deal=False):
    """(expectation, total variance) of the estimated gradient; the variance is summed over parameters."""
    table = softmax(logits)
    mean, square = dict.fromkeys(PARAMETERS, 0.0), 0.0
    for probability, batch in all_batches(table, size, same_deal):
        gradient = estimate(make, batch, table)
        square += probability * sum(g * g for g in gradient.values())
        for parameter, g in gradient.items():
            mean[parameter] += probability * g
    return mean, square - sum(g * g for g in mean.values())


def frozen_rae(baselines, order="batch"):
    """RAE as it meets its next batch, with these baselines of players 0 and 1."""

    def make():
        rae = Rae(order=order)
        rae.state = {f"kuhn/{p}": {"average": b, "weight": 1.0} for p, b in enumerate(baselines)}
        return rae

    return make


def assert_equal(found, expected, factor=1.0):
    assert found.keys() == expected.keys()
    for parameter, g in expected.items():
        assert found[parameter] == pytest.approx(factor * g, abs=1e-9), parameter


def cosine(a, b):
    norm = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
    return sum(a[p] * b[p] for p in a) / norm


@pytest.mark.parametrize("logits", POLICIES)
@pytest.mark.parametrize("make", [Reinforce, Rae, frozen_rae((0.3, -0.7)), frozen_rae((0.3, -0.7), "episode")])
def test_unbiased_with_a_baseline_from_before(make, logits):
    """Williams 1992: a baseline that does not depend on this game's moves leaves the expectation alone."""
    assert_equal(moments(make, logits)[0], exact_gradient(logits))


def test_rae_does_not_see_its_own_batch():
    """Batches of two: a baseline that the batch itself had moved would show as a factor."""
    logits = POLICIES[1]
    assert_equal(moments(frozen_rae((0.3, -0.7)), logits, size=2)[0], exact_gradient(logits))


def test_rae_in_the_paper_s_order_is_shorter_by_the_decay():
    logits = POLICIES[1]
    assert_equal(moments(frozen_rae((0.3, -0.7), "paper"), logits)[0], exact_gradient(logits), factor=0.95)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("logits", POLICIES)
def test_rloo_is_unbiased(logits, size):
    assert_equal(moments(Rloo, logits, size, same_deal=True)[0], exact_gradient(logits))


@pytest.mark.parametrize("size", [2, 3])
def test_grpo_without_std_is_shorter_by_one_in_n(size):
    logits = POLICIES[1]
    found, _ = moments(lambda: Grpo(std=False), logits, size, same_deal=True)
    assert_equal(found, exact_gradient(logits), factor=1 - 1 / size)


def test_reinforce_batch_is_shorter_by_one_in_n():
    logits = POLICIES[1]
    assert_equal(moments(lambda: Reinforce("batch"), logits, 2)[0], exact_gradient(logits), factor=1 / 2)


@pytest.mark.parametrize("logits", POLICIES)
def test_grpo_with_std_points_elsewhere(logits):
    """Not a matter of length: no factor makes it the gradient."""
    found, _ = moments(Grpo, logits, 3, same_deal=True)
    assert cosine(found, exact_gradient(logits)) < 0.99
    same, _ = moments(lambda: Grpo(std=False), logits, 3, same_deal=True)
    assert cosine(same, exact_gradient(logits)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("logits", POLICIES)
def test_the_variance_of_rae_is_a_parabola_in_its_baseline(logits):
    """E |(R - b) S|^2 is smallest at b* = E[R |S|^2] / E[|S|^2] (Greensmith, Bartlett and Baxter 2004).

    The role's value is another number in general. What is true: any baseline between 0 and 2 b* beats none.
    """
    table = softmax(logits)
    weighted, weights = [0.0, 0.0], [0.0, 0.0]
    for o in outcomes(TREE, table):
        for player in range(2):
            square = sum(
                sum(((move == made) - p) ** 2 for move, p in table[seen].items())
                for who, seen, made in o.moves
                if who == player
            )
            weighted[player] += o.probability * square * o.returns[player]
            weights[player] += o.probability * square
    best = [a / b for a, b in zip(weighted, weights, strict=True)]
    _, none = moments(Reinforce, logits)
    _, least = moments(frozen_rae(best), logits)
    gain = sum(w * b * b for w, b in zip(weights, best, strict=True))
    assert none - least == pytest.approx(gain, abs=1e-9)
    for factor in (0.5, 1.5):
        assert least < moments(frozen_rae([factor * b for b in best]), logits)[1] < none
    assert moments(frozen_rae([2.5 * b for b in best]), logits)[1] > none


@pytest.mark.parametrize("logits", POLICIES)
def test_rae_does_nothing_for_the_variance_on_kuhn(logits):
    """A role is worth 1/8 of a chip or less, so there is next to nothing to remove - and b* is not the value:
    RAE at its fixed point is a little worse than no baseline, by 0.1 to 0.3 per cent on these policies."""
    _, none = moments(Reinforce, logits)
    _, rae = moments(frozen_rae(values(TREE, softmax(logits))), logits)
    assert none < rae < 1.003 * none


def test_rae_does_not_care_what_a_role_is_worth(monkeypatch):
    """Pay player 0 five chips more and player 1 five fewer: RAE's variance stays, REINFORCE's explodes."""
    plain = trajectories

    def unequal(outcome):
        first, second = plain(outcome)
        return [
            Trajectory("kuhn", t.player, LEARNER, t.reward + by, t.turns, t.deal)
            for t, by in ((first, 5.0), (second, -5.0))
        ]

    value = values(TREE, softmax(UNIFORM))
    mean, rae = moments(frozen_rae(value), UNIFORM)
    _, none = moments(Reinforce, UNIFORM)
    monkeypatch.setitem(globals(), "trajectories", unequal)
    shifted_mean, shifted = moments(frozen_rae((value[0] + 5, value[1] - 5)), UNIFORM)
    _, shifted_none = moments(Reinforce, UNIFORM)
    assert_equal(shifted_mean, mean)
    assert shifted == pytest.approx(rae, abs=1e-9)
    assert shifted_none > 10 * none


def test_rae_learns_the_value_of_each_role():
    """Fed batches in the proportions of the exact distribution, its baseline is the value at once."""
    table = softmax(UNIFORM)
    rae, found = Rae(), list(outcomes(TREE, table))
    batch = [t for o in found for t in trajectories(o) for _ in range(round(o.probability * 48))]
    assert len(batch) == 96  # 48 games: every outcome has a multiple of 1/48
    for _ in range(3):
        rae(batch)
        for player, value in enumerate(values(TREE, table)):
            seen = rae.state[f"kuhn/{player}"]
            assert seen["average"] / seen["weight"] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("logits", POLICIES)
def test_rloo_removes_the_luck_of_the_deal(logits):
    """On the same batches, three games of one deal, RLOO has the smaller variance: it knows the cards' worth.

    But three games of three deals tell more than three of one. Against REINFORCE on those, games being equal,
    RLOO is no clear winner on Kuhn: a little worse for two of these policies, better for the third.
    """
    _, rloo = moments(Rloo, logits, 3, same_deal=True)
    _, same = moments(Reinforce, logits, 3, same_deal=True)
    _, single = moments(Reinforce, logits)
    assert rloo < 0.92 * same
    assert (rloo < single / 3) == (logits is POLICIES[2])
