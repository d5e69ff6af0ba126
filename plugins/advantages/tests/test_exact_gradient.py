"""Estimators against the exact policy gradient of Kuhn poker: bias and variance without a single sample.

The policy is a softmax of one logit a (observation, move). The truth is the derivative of each player's value
in the logits of its own decisions, by finite differences of `values`, which uses no estimator. With
it is compared the expectation of sum_turns advantage * grad log pi(move), by going through every batch that
can occur, weighted with its probability: single games, pairs of games, or groups of games of one deal.
"""

import functools
import itertools
import json
import math
import random
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from spiral_advantages.critic import Critic
from spiral_advantages.grpo import Grpo
from spiral_advantages.nested import Nested
from spiral_advantages.rae import Rae
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.rloo import Rloo
from spiral_advantages.turn_gae import EPS, TurnGae
from spiral_games.native.kuhn_poker import KuhnPoker

from spiral import LEARNER, Trajectory, Turn
from spiral.theory import GameTree, outcomes, values

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


def exact_gradient(logits, worth=lambda table: values(TREE, table)):
    """d worth of the player, its value, / d logit; five-point stencil: error about h^4, here 1e-12."""
    gradient, h = {}, 1e-3
    for d in TREE.decisions:
        for move in d.moves:
            at = {}
            for k in (-2, -1, 1, 2):
                moved = logits | {(d.observation, move): logits[d.observation, move] + k * h}
                at[k] = worth(softmax(moved))[d.player]
            gradient[d.observation, move] = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
    return gradient


@functools.cache
def prompt(deal, moves, player):
    """The bytes of what a player sees in a deal after these moves."""
    game = KuhnPoker()
    game.reset_to(list(game.deals())[deal][1])
    for move in moves:
        game.play(move)
    return tuple(game.observe(player).encode())


def trajectories(outcome):
    """The trajectories of both players of one outcome, as an estimator gets them."""
    found = []
    for player in range(2):
        turns = []
        for number, (who, seen, move) in enumerate(outcome.moves):
            if who != player:
                continue
            own, other = (
                prompt(outcome.deal, tuple(m for _, _, m in outcome.moves[:number]), p) for p in (who, 1 - who)
            )
            turn = Turn(
                seen, own, (), (), move, True, "stop", 0, joint_state=f"{outcome.deal}/{outcome.moves[:number]}"
            )
            turns.append(replace(turn, other_prompts=(other,)))
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


def frozen_turn_gae(turn_values, **args):
    """TurnGae as it meets its next batch, with these values of "player/turn"."""

    def make():
        turn_gae = TurnGae(**args)
        turn_gae.state = {f"kuhn/{key}": {"average": v, "weight": 1.0} for key, v in turn_values.items()}
        return turn_gae

    return make


def assert_equal(found, expected, factor=1.0, abs=1e-9):
    assert found.keys() == expected.keys()
    for parameter, g in expected.items():
        assert found[parameter] == pytest.approx(factor * g, abs=abs), parameter


def of_player(gradient, player):
    """The part of a gradient that belongs to one player's decisions."""
    mine = {d.observation for d in TREE.decisions if d.player == player}
    return {parameter: g for parameter, g in gradient.items() if parameter[0] in mine}


def cosine(a, b):
    norm = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
    return sum(a[p] * b[p] for p in a) / norm


@pytest.mark.parametrize("logits", POLICIES)
@pytest.mark.parametrize(
    "make",
    [
        Reinforce,
        Rae,
        frozen_rae((0.3, -0.7)),
        frozen_rae((0.3, -0.7), "episode"),
        TurnGae,
        frozen_turn_gae({"0/0": 0.3, "0/1": -0.5, "1/0": 0.2}),
    ],
)
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


def kept_nested(logits):
    """`nested` after a batch of 4,800 games in the proportions of the exact distribution."""
    nested = Nested(keep=0.9)
    for_each = [(trajectories(o), round(4800 * o.probability)) for o in outcomes(TREE, softmax(logits))]
    nested([t for players, times in for_each for t in players * times])
    return nested.state


@pytest.mark.parametrize("logits", POLICIES)
def test_nested_is_unbiased(logits):
    """Every pair of games: the other game's return, from the same state or another, leaves the expectation alone."""
    assert_equal(moments(Nested, logits, size=2)[0], exact_gradient(logits))


def test_nested_is_unbiased_with_what_it_kept():
    """Returns of older policies, here of the uniform one, change the variance and not the expectation."""
    kept = json.dumps(kept_nested(UNIFORM))

    def make():
        nested = Nested(keep=0.9)
        nested.state = json.loads(kept)
        return nested

    assert_equal(moments(make, POLICIES[1])[0], exact_gradient(POLICIES[1]))


@pytest.mark.parametrize(("number", "share"), [(0, 0.47), (1, 0.61), (2, 0.40)])
def test_nested_takes_away_the_luck_of_the_cards(number, share):
    """Its variance in single games, as a share of that of RAE at the role's value, when it kept enough of each state to
    know its value: what is left is the luck of the moves that follow."""
    logits = POLICIES[number]
    kept = json.dumps(kept_nested(logits))

    def make():
        nested = Nested(keep=0.9)
        nested.state = json.loads(kept)
        return nested

    _, rae = moments(frozen_rae(values(TREE, softmax(logits))), logits)
    _, nested = moments(make, logits)
    assert nested / rae == pytest.approx(share, abs=0.01)


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
    """On the same batches, three games of one deal, RLOO has the smaller variance: its baseline depends on the cards.

    But three games of three deals tell more than three of one. Against REINFORCE on those, games being equal,
    RLOO is no clear winner on Kuhn: a little worse for two of these policies, better for the third.
    """
    _, rloo = moments(Rloo, logits, 3, same_deal=True)
    _, same = moments(Reinforce, logits, 3, same_deal=True)
    _, single = moments(Reinforce, logits)
    assert rloo < 0.92 * same
    assert (rloo < single / 3) == (logits is POLICIES[2])


# Credit by the turn. Player 0 of Kuhn poker has one turn or two, player 1 always one.


def turn_values(logits):
    """What a turn of each number brings on average: the fixed point of TurnGae's values."""
    total, weight = defaultdict(float), defaultdict(float)
    for o in outcomes(TREE, softmax(logits)):
        for t in trajectories(o):
            for k in range(len(t.turns)):
                total[f"{t.player}/{k}"] += o.probability * t.reward
                weight[f"{t.player}/{k}"] += o.probability
    return {key: total[key] / weight[key] for key in total}


def test_turn_gae_does_not_see_its_own_batch():
    logits = POLICIES[1]
    assert_equal(moments(frozen_turn_gae(turn_values(logits)), logits, size=2)[0], exact_gradient(logits))


@pytest.mark.parametrize("logits", POLICIES)
def test_turn_gae_with_a_lam_below_1_is_biased_in_proportion(logits):
    """Even with the right values: they know a turn's number and not its cards. The bias of lam is 1 - lam times that
    of lam=0, since there are two turns at most; what is bought with it is variance."""
    truth, at = exact_gradient(logits), turn_values(logits)
    (zero, _), (half, half_variance), (_, variance) = [
        moments(frozen_turn_gae(at, lam=lam), logits) for lam in (0.0, 0.5, 1.0)
    ]
    assert cosine(zero, truth) < 0.99
    for parameter, g in truth.items():
        assert half[parameter] - g == pytest.approx((zero[parameter] - g) / 2, abs=1e-9), parameter
    assert half_variance < variance
    # One turn has nothing to bootstrap from.
    assert_equal(of_player(zero, 1), of_player(truth, 1))


def test_turn_gae_without_values_discounts_a_player_by_its_own_turns():
    """gamma < 1 is another aim: with no values yet, only the first of player 0's two turns is paid less."""
    logits = POLICIES[1]
    found, _ = moments(lambda: TurnGae(gamma=0.5), logits)
    truth = exact_gradient(logits)
    second = {d.observation for d in TREE.decisions if d.player == 0 and "bet" in d.observation}
    assert len(second) == 3
    for parameter, g in truth.items():
        if parameter[0] in second or parameter in of_player(truth, 1):
            assert found[parameter] == pytest.approx(g, abs=1e-9)
    assert cosine(of_player(found, 0), of_player(truth, 0)) < 0.99


def test_the_mean_of_turn_gae_shortens_one_turn_and_turns_two():
    """Player 1, one turn a game: 1 - 1/n, as reinforce with baseline=batch. Player 0, whose number of turns depends on
    how it plays: another direction, less so in a larger batch."""
    logits = POLICIES[1]
    truth, make = exact_gradient(logits), frozen_turn_gae(turn_values(logits), normalise="mean")
    cosines = []
    for size in (2, 3):
        found, _ = moments(make, logits, size)
        assert_equal(of_player(found, 1), of_player(truth, 1), factor=1 - 1 / size)
        cosines.append(cosine(of_player(found, 0), of_player(truth, 0)))
    assert cosines[0] < cosines[1] < 0.99


def test_the_deviation_of_turn_gae_points_elsewhere():
    """Not a matter of length, even where every game has one turn."""
    found, _ = moments(frozen_turn_gae(turn_values(UNIFORM), normalise="std"), UNIFORM, 2)
    assert cosine(of_player(found, 1), of_player(exact_gradient(UNIFORM), 1)) < 0.98


@pytest.mark.parametrize("normalise", ["mean", "std"])
def test_what_is_left_of_the_normalisation_s_bias_in_a_large_batch(normalise):
    """A batch in the proportions of the exact distribution, 48 games, stands for an endless one. The mean is harmless
    there, whatever the values; the deviation still divides each role by its own number."""
    batch = [o for o in outcomes(TREE, softmax(UNIFORM)) for _ in range(round(o.probability * 48))]
    at = turn_values(UNIFORM)
    found = estimate(frozen_turn_gae(at, normalise=normalise), batch, softmax(UNIFORM))
    truth, deviations = exact_gradient(UNIFORM), []
    for player in range(2):
        left = [
            t.reward - at[f"{player}/{k}"]
            for o in batch
            for t in [trajectories(o)[player]]
            for k in range(len(t.turns))
        ]
        deviations.append(math.sqrt(sum(a * a for a in left) / len(left)))  # their mean is 0
        factor = 1.0 if normalise == "mean" else 1 / (deviations[player] + EPS)
        assert_equal(of_player(found, player), of_player(truth, player), factor)
    assert abs(deviations[0] - deviations[1]) > 0.005


@pytest.mark.parametrize(
    ("logits", "variances", "biases"),
    [
        (POLICIES[0], (2.366, 2.317, 2.104, 2.029), (0.15, 0.31)),
        (POLICIES[1], (1.963, 1.975, 1.827, 1.777), (0.28, 0.56)),
        (POLICIES[2], (1.668, 1.740, 1.699, 1.708), (0.09, 0.17)),
    ],
)
def test_what_turn_gae_buys_and_costs_on_kuhn(logits, variances, biases):
    """The table of docs/guides/curricula-and-rewards.md: rae, turn_gae, lam=1/2, lam=0, at their fixed points. Without bias a
    value by turn number is no better than one by role: it mixes the hands that get there."""
    truth, at = exact_gradient(logits), turn_values(logits)
    makes = [frozen_rae(values(TREE, softmax(logits))), *[frozen_turn_gae(at, lam=lam) for lam in (1.0, 0.5, 0.0)]]
    found = [moments(make, logits) for make in makes]
    assert [variance for _, variance in found] == pytest.approx(variances, abs=5e-4)
    for (mean, _), bias in zip(found[2:], biases, strict=True):
        length = math.dist(mean.values(), truth.values()) / math.hypot(*truth.values())
        assert length == pytest.approx(bias, abs=5e-3)


PAID = {"check": 3.0, "fold": -1.0}
"""A shaper's reward for single moves."""


def worth_with_paid_moves(table):
    worth = list(values(TREE, table))
    for o in outcomes(TREE, table):
        for player, _, move in o.moves:
            worth[player] += o.probability * PAID.get(move, 0.0)
    return worth


@pytest.mark.parametrize("logits", POLICIES)
def test_rewards_of_turns_are_credited_without_bias(logits, monkeypatch):
    """What is climbed is the return and the rewards of the player's own turns. The estimators of whole games see the
    total and are right about it; turn_gae leaves out what was paid before a turn, and is right as well. Here, where
    much was paid before player 0's second turn, that also saves variance; a small amount can happen to be a good
    baseline, so that it is no law."""
    plain = trajectories

    def shaped(outcome):
        paid = []
        for t in plain(outcome):
            turns = tuple(replace(turn, reward=PAID.get(turn.move, 0.0)) for turn in t.turns)
            paid.append(replace(t, reward=t.reward + sum(turn.reward for turn in turns), turns=turns))
        return paid

    truth = exact_gradient(logits, worth_with_paid_moves)
    monkeypatch.setitem(globals(), "trajectories", shaped)
    (total, total_variance), (by_turn, variance) = moments(Reinforce, logits), moments(TurnGae, logits)
    for found in (total, by_turn, moments(frozen_rae((0.3, -0.7)), logits)[0]):
        assert_equal(found, truth)
    assert_equal(moments(frozen_turn_gae({"0/0": 0.3, "0/1": -0.5, "1/0": 0.2}), logits)[0], truth)
    assert variance < total_variance


# Credit by a critic, whose values are read from features of the prompts.


@functools.cache
def feature(text):
    rng = random.Random(str(text))
    return [rng.gauss(0, 1) for _ in range(24)]


def features(prompts):
    """24 numbers for each prompt, drawn by its bytes, in the place of hidden states."""
    return torch.tensor([feature(text) for text in prompts])


@functools.cache
def learned_critic(number, view):
    """The state of a critic after 40 batches of games in the proportions of the exact distribution of a policy, as JSON."""
    critic, table = Critic(view=view), softmax(POLICIES[number])
    critic.features = features
    batch = [t for o in outcomes(TREE, table) for t in trajectories(o) * round(480 * o.probability)]
    for _ in range(40):
        critic(batch)
    return json.dumps(critic.state)


def frozen_critic(number, view, **args):
    """A critic as it meets its next batch, having learned policy `number`."""

    def make():
        critic = Critic(view=view, updates=1, **args)
        critic.features, critic.state = features, json.loads(learned_critic(number, view))
        return critic

    return make


@pytest.mark.parametrize("view", ["own", "joint"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_critic_is_unbiased_whatever_it_learned(number, view):
    """Here it learned another policy, so its values are wrong, and of both players' cards where it sees them."""
    found, _ = moments(frozen_critic((number + 1) % 3, view), POLICIES[number])
    # Its values are float32, whose rounding depends on which prompts were asked for together.
    assert_equal(found, exact_gradient(POLICIES[number]), abs=1e-7)


@pytest.mark.parametrize("view", ["own", "joint"])
def test_a_critic_does_not_see_its_own_batch(view):
    """Every pair of games; its values are read before it learns from them."""
    assert_equal(moments(frozen_critic(0, view), POLICIES[1], size=2)[0], exact_gradient(POLICIES[1]), abs=1e-7)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_critic_takes_away_luck(number):
    """Its variance as a share of that of RAE at the role's value: less with the player's own cards in view than without,
    and far less with the other's as well."""
    logits = POLICIES[number]
    _, rae = moments(frozen_rae(values(TREE, softmax(logits))), logits)
    shares = [moments(frozen_critic(number, view), logits)[1] / rae for view in ("own", "joint")]
    assert shares == pytest.approx(CRITIC_SHARES[number], abs=0.02)


CRITIC_SHARES = [(0.63, 0.47), (0.75, 0.61), (0.54, 0.41)]
"""Own and joint view, by policy."""


def test_a_critic_with_a_lam_below_1_is_biased_by_the_errors_of_its_values():
    """Wrong values, of another policy, point elsewhere; values that learned this policy are nearly right."""
    truth = exact_gradient(POLICIES[1])
    wrong, _ = moments(frozen_critic(2, "own", lam=0.0), POLICIES[1])
    right, _ = moments(frozen_critic(1, "own", lam=0.0), POLICIES[1])
    errors = [math.sqrt(sum((found[p] - g) ** 2 for p, g in truth.items())) for found in (wrong, right)]
    norm = math.sqrt(sum(g * g for g in truth.values()))
    assert errors[0] > 0.4 * norm
    assert errors[1] < 0.01 * norm
