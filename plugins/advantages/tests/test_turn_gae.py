"""Turn-level GAE by hand arithmetic: what a turn earns, what is read and updated, and what a checkpoint keeps."""

import itertools
import json
import random
from dataclasses import replace

import pytest
from spiral_advantages.grpo import Grpo
from spiral_advantages.rae import Rae
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.rloo import Rloo
from spiral_advantages.turn_gae import EPS, TurnGae

from spiral import LEARNER, SpiralError, Stateful, Trajectory, Turn
from spiral.testing import check_estimator

TURN = Turn("seen", (1,), (2,), (-0.5,), "move", True, "stop", 0)


def trajectory(reward, *paid, player=0, game="kuhn", deal=0):
    """A game's return and a turn for each number paid; `Trajectory.reward` is their sum, as shapers leave it."""
    turns = tuple(replace(TURN, reward=x) for x in paid)
    return Trajectory(game, player, LEARNER, reward + sum(paid), turns, deal)


def given(**turn_values):
    """State of the values of turns 0, 1, ... of player 0: t0=..., t1=..."""
    return {f"kuhn/0/{key[1:]}": {"average": v, "weight": 1.0} for key, v in turn_values.items()}


def random_batch(rng, num=8):
    return [
        trajectory(rng.uniform(-2, 2), *[rng.uniform(-1, 1) for _ in range(rng.randrange(4))], player=rng.randrange(2))
        for _ in range(num)
    ]


@pytest.mark.parametrize("args", [{}, {"gamma": 0.9, "lam": 0.7}, {"normalise": "mean"}, {"normalise": "std"}])
def test_it_keeps_the_promises_of_an_estimator(args):
    assert check_estimator(lambda: TurnGae(**args)) == []


def test_the_return_belongs_to_the_last_turn_and_counts_for_all():
    """No values yet, nothing discounted: every turn gets the return."""
    assert TurnGae()([trajectory(1.0, 0.0, 0.0, 0.0)]) == [[1.0, 1.0, 1.0]]


def test_a_turn_is_not_credited_with_what_was_paid_before():
    """Turns are paid 0.5 and -0.25, the game 1: from turn 0 on 1.25 follow, from turn 1 on 0.75."""
    assert TurnGae()([trajectory(1.0, 0.5, -0.25)]) == [[1.25, 0.75]]


def test_lam_1_is_the_return_to_go_minus_the_value_of_the_turn():
    """Returns-to-go 1.25 and 0.75; values 0.25 and 0.5."""
    turn_gae = TurnGae()
    turn_gae.state = given(t0=0.25, t1=0.5)
    assert turn_gae([trajectory(1.0, 0.5, -0.25)]) == [[1.0, 0.25]]


def test_lam_0_is_the_reward_and_the_next_value_minus_this_one():
    """delta_0 = 0.5 + 0.5 - 0.25, delta_1 = -0.25 + 1 - 0.5: the end has no value."""
    turn_gae = TurnGae(lam=0.0)
    turn_gae.state = given(t0=0.25, t1=0.5, t2=9.0)
    assert turn_gae([trajectory(1.0, 0.5, -0.25)]) == [[0.75, 0.25]]


def test_three_turns_by_hand():
    """gamma 1/2, lam 1/2. r = (1, 0, 2 + 2), V = (1, 2, 4):
    delta = (1 + 1 - 1, 0 + 2 - 2, 4 - 4) = (1, 0, 0); and with the return 6 in place of 2, delta_2 = 4:
    A_2 = 4, A_1 = 0 + 4/4 = 1, A_0 = 1 + 1/4."""
    turn_gae = TurnGae(gamma=0.5, lam=0.5)
    turn_gae.state = given(t0=1.0, t1=2.0, t2=4.0)
    before = json.loads(json.dumps(turn_gae.state))
    assert turn_gae([trajectory(2.0, 1.0, 0.0, 2.0)]) == [[1.0, 0.0, 0.0]]
    turn_gae.state = before
    assert turn_gae([trajectory(6.0, 1.0, 0.0, 2.0)]) == [[1.25, 1.0, 4.0]]


def test_values_are_debiased_averages_of_what_followed_by_hand():
    """decay 0.5. Batch 1: turn 0 brings 2 and 1 (mean 1.5): average 0.75 * 1.5 = 1.125, weight 0.75; turn 1, of the
    first game only, 2 - 1 = 1: average 0.5, weight 0.5. Batch 2 reads 1.5 and 1, then adds 0 for turn 0:
    average 0.5 * 1.125, weight 0.875."""
    turn_gae = TurnGae(decay=0.5)
    assert turn_gae([trajectory(1.0, 1.0, 0.0), trajectory(1.0, 0.0)]) == [[2.0, 1.0], [1.0]]
    after_one = {"kuhn/0/0": {"average": 1.125, "weight": 0.75}, "kuhn/0/1": {"average": 0.5, "weight": 0.5}}
    assert turn_gae.state == after_one
    assert turn_gae([trajectory(0.0, 0.0)]) == [[-1.5]]
    assert turn_gae.state["kuhn/0/0"] == {"average": 0.5625, "weight": 0.875}
    assert turn_gae.state["kuhn/0/1"] == after_one["kuhn/0/1"]  # no game reached it


def test_values_are_of_discounted_returns_to_go():
    """gamma 1/2: turn 1 brings 4, turn 0 brings 1 + 4/2."""
    turn_gae = TurnGae(gamma=0.5)
    turn_gae([trajectory(4.0, 1.0, 0.0)])
    assert turn_gae([trajectory(4.0, 1.0, 0.0)]) == [[pytest.approx(0, abs=1e-14)] * 2]
    values = [seen["average"] / seen["weight"] for seen in turn_gae.state.values()]
    assert values == [pytest.approx(3), pytest.approx(4)]


def test_turns_players_and_games_have_values_of_their_own():
    turn_gae = TurnGae()
    batch = [trajectory(1.0, 0.0, 0.0), trajectory(-1.0, 0.0, player=1), trajectory(0.5, 0.0, game="ttt")]
    turn_gae(batch)
    assert set(turn_gae.state) == {"kuhn/0/0", "kuhn/0/1", "kuhn/1/0", "ttt/0/0"}
    assert turn_gae(batch) == [[pytest.approx(0, abs=1e-14)] * len(t.turns) for t in batch]


def test_with_one_turn_a_game_it_is_rae():
    rng = random.Random(0)
    turn_gae, rae = TurnGae(decay=0.8), Rae(decay=0.8)
    for _ in range(5):
        batch = [trajectory(rng.uniform(-2, 2), 0.0, player=rng.randrange(2)) for _ in range(6)]
        assert turn_gae(batch) == rae(batch)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_gae_is_the_weighted_mean_of_the_n_step_advantages(lam):
    """Schulman et al. 2016, eq. 16: (1 - lam) sum_n lam^(n-1) A^(n), the last one with all the weight that is left;
    A^(n) = r_k + ... + gamma^(n-1) r_{k+n-1} + gamma^n V_{k+n} - V_k."""
    rng, gamma = random.Random(3), 0.9
    rewards, values = [rng.uniform(-1, 1) for _ in range(4)], [rng.uniform(-1, 1) for _ in range(4)]
    turn_gae = TurnGae(gamma, lam)
    turn_gae.state = given(**{f"t{k}": v for k, v in enumerate(values)})
    (found,) = turn_gae([trajectory(0.7, *rewards)])
    rewards[-1] += 0.7
    for k in range(4):
        left, expected = 1.0, 0.0
        for n in range(1, 4 - k + 1):
            last = k + n == 4
            step = sum(gamma**j * rewards[k + j] for j in range(n)) - values[k]
            step += 0.0 if last else gamma**n * values[k + n]
            weight = left if last else (1 - lam) * lam ** (n - 1)
            expected, left = expected + weight * step, left - weight
        assert found[k] == pytest.approx(expected, abs=1e-12)


def test_the_mean_is_of_all_turns_of_the_role_and_of_the_sums():
    """Player 0: sums-to-go 3, 1 and 2: mean 2. Normalised before they are summed, the rewards 2, 1 and 2 of mean 5/3
    would give -1/3, -2/3 and 1/3: each turn that follows costs the mean once more, whatever it brought."""
    batch = [trajectory(1.0, 2.0, 0.0), trajectory(2.0, 0.0), trajectory(7.0, 0.0, player=1)]
    assert TurnGae(normalise="mean")(batch) == [[1.0, -1.0], [0.0], [0.0]]


def test_the_deviation_by_hand():
    """Player 0: 3 and 1: mean 2, deviation 1. Player 1 alone: 0 over EPS."""
    batch = [trajectory(3.0, 0.0), trajectory(1.0, 0.0), trajectory(7.0, 0.0, player=1)]
    found = TurnGae(normalise="std")(batch)
    assert found == [[pytest.approx(1 / (1 + EPS))], [pytest.approx(-1 / (1 + EPS))], [0.0]]


def test_the_deviation_forgets_what_was_at_stake():
    """The bias in one line: a game for 1 chip and a game for 100 get the same advantages; with the mean they do not."""
    batch = [trajectory(stake * sign, 0.0, game=game) for game, stake in (("a", 1), ("b", 100)) for sign in (1, -1)]
    small, _, large, _ = (credit for (credit,) in TurnGae(normalise="std")(batch))
    assert small == pytest.approx(large, abs=1e-3)
    small, _, large, _ = (credit for (credit,) in TurnGae(normalise="mean")(batch))
    assert large == 100 * small


def test_values_learn_the_returns_and_not_what_normalisation_made_of_them():
    plain, normalised = TurnGae(), TurnGae(normalise="std")
    rng = random.Random(4)
    for _ in range(3):
        batch = random_batch(rng)
        plain(batch)
        normalised(batch)
    assert plain.state == normalised.state


@pytest.mark.parametrize("normalise", ["none", "mean", "std"])
def test_the_order_of_the_games_does_not_matter(normalise):
    rng = random.Random(0)
    batches = [random_batch(rng, 5) for _ in range(2)]
    states, credits = [], []
    for order in itertools.permutations(range(5)):
        turn_gae = TurnGae(gamma=0.9, lam=0.8, normalise=normalise)
        for batch in batches:
            found = turn_gae([batch[i] for i in order])
        states.append(turn_gae.state)
        credits.append([found[order.index(i)] for i in range(5)])
    assert all(state == states[0] for state in states)  # exactly, not nearly
    assert all(credit == credits[0] for credit in credits)


@pytest.mark.parametrize("normalise", ["none", "mean", "std"])
def test_a_run_resumed_through_json_goes_on_exactly(normalise):
    rng = random.Random(2)
    batches = [random_batch(rng) for _ in range(6)]
    whole, before, after = (TurnGae(0.9, 0.8, normalise) for _ in range(3))
    expected = [whole(batch) for batch in batches]
    assert [before(batch) for batch in batches[:3]] == expected[:3]
    after.state = json.loads(json.dumps(before.state))
    assert [after(batch) for batch in batches[3:]] == expected[3:]
    assert after.state == whole.state
    assert isinstance(after, Stateful)


def test_games_without_a_turn_and_empty_batches():
    turn_gae = TurnGae(normalise="std")
    assert turn_gae([]) == []
    assert turn_gae([trajectory(1.0)]) == [[]]
    assert turn_gae.state == {}


@pytest.mark.parametrize("estimator", [Rae, Reinforce, lambda: Grpo(std=False), Rloo])
def test_the_estimators_of_whole_games_use_the_total_reward(estimator):
    """What turns were paid is in `Trajectory.reward` already: as single rewards or as none, it is credited once."""
    as_turns = [trajectory(1.0, 0.5, -0.25), trajectory(0.0, 0.25, 0.25)]
    as_total = [trajectory(1.25, 0.0, 0.0), trajectory(0.5, 0.0, 0.0)]
    assert estimator()(as_turns) == estimator()(as_total)
    assert estimator()(as_turns) != estimator()([trajectory(1.0, 0.0, 0.0), trajectory(0.0, 0.0, 0.0)])


@pytest.mark.parametrize(
    "args", [{"gamma": 1.1}, {"gamma": float("nan")}, {"lam": -0.1}, {"decay": 1.0}, {"normalise": "max"}]
)
def test_bad_arguments(args):
    ((name, value),) = args.items()
    with pytest.raises(SpiralError, match=f"turn_gae was given {name}={value!r}; give"):
        TurnGae(**args)
