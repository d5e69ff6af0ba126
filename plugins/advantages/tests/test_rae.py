"""RAE by hand arithmetic: what is read, what is updated, in which order, and what a checkpoint keeps."""

import itertools
import json
import random

import pytest
from spiral_advantages.rae import Rae

from spiral import LEARNER, SpiralError, Stateful, Trajectory, Turn

TURN = Turn("seen", (1,), (2,), (-0.5,), "move", True, "stop", 0)


def trajectory(reward, player=0, game="kuhn", num_turns=1, deal=0):
    return Trajectory(game, player, LEARNER, reward, (TURN,) * num_turns, deal)


def test_the_first_batch_has_no_baseline():
    rae = Rae()
    assert rae([trajectory(2.0), trajectory(-1.0)]) == [[2.0], [-1.0]]


def test_two_batches_by_hand():
    """decay 0.5. Batch 1: returns 2, 1 (mean 1.5): average 0.75 * 1.5 = 1.125, weight 0.75, baseline 1.5.
    Batch 2: return 0.5: A = 0.5 - 1.5 = -1; average 0.5 * 1.125 + 0.5 * 0.5 = 0.8125, weight 0.875.
    Batch 3: return 1: A = 1 - 0.8125 / 0.875 = 1 - 0.928571... = 0.0714285..."""
    rae = Rae(decay=0.5)
    assert rae([trajectory(2.0), trajectory(1.0)]) == [[2.0], [1.0]]
    assert rae.state == {"kuhn/0": {"average": 1.125, "weight": 0.75}}
    assert rae([trajectory(0.5)]) == [[-1.0]]
    assert rae.state == {"kuhn/0": {"average": 0.8125, "weight": 0.875}}
    assert rae([trajectory(1.0)]) == [[pytest.approx(1 / 14, abs=1e-15)]]


def test_the_return_is_counted_once():
    """The reference's Tinker port trained 2R - b: the environment gave R - b and the trainer added R."""
    rae = Rae()
    rae.state = {"kuhn/0": {"average": 0.25, "weight": 1.0}}
    assert rae([trajectory(1.0)]) == [[0.75]]  # 2R - b would be 1.75


def test_every_turn_gets_the_trajectory_s_advantage():
    rae = Rae()
    assert rae([trajectory(1.0, num_turns=3), trajectory(-1.0, num_turns=0)]) == [[1.0, 1.0, 1.0], []]


def test_a_game_without_a_turn_counts_for_the_baseline():
    """Both returns of the role: (1 - 1) / 2 = 0, not 1."""
    rae = Rae()
    rae([trajectory(1.0), trajectory(-1.0, num_turns=0)])
    assert rae([trajectory(1.0)]) == [[1.0]]


def test_roles_and_games_have_baselines_of_their_own():
    rae = Rae()
    roles = [(1.0, 0, "kuhn"), (-1.0, 1, "kuhn"), (0.5, 0, "ttt")]
    rae([trajectory(*role) for role in roles])
    assert set(rae.state) == {"kuhn/0", "kuhn/1", "ttt/0"}
    # Each baseline is now the role's own one return, to the last bit or the one before.
    found = rae([trajectory(*role) for role in roles] + [trajectory(0.5, 1, "ttt")])
    assert found == [[pytest.approx(0, abs=1e-15)]] * 3 + [[0.5]]


def test_a_constant_return_is_its_own_baseline_at_once():
    """What the debiasing is for: without it the second batch would still see A = 0.95 R."""
    rae = Rae()
    rae([trajectory(3.0)])
    for _ in range(5):
        assert rae([trajectory(3.0)]) == [[pytest.approx(0, abs=1e-14)]]


def test_the_order_of_the_games_does_not_matter():
    rng = random.Random(0)
    batches = [[trajectory(rng.uniform(-2, 2), rng.randrange(2)) for _ in range(5)] for _ in range(2)]
    states, credits = [], []
    for order in itertools.permutations(range(5)):
        rae = Rae()
        for batch in batches:
            found = rae([batch[i] for i in order])
        states.append(rae.state)
        credits.append([found[order.index(i)] for i in range(5)])
    assert all(state == states[0] for state in states)  # exactly, not nearly
    assert all(credit == credits[0] for credit in credits)


def test_one_update_is_the_mean_over_all_orders_of_single_updates():
    returns = [2.0, -1.0, 0.5, 1.0]
    batched = Rae(0.8)
    batched([trajectory(r) for r in returns])
    ends = []
    for order in itertools.permutations(returns):
        single = Rae(0.8)
        for r in order:
            single([trajectory(r)])
        ends.append(single.state["kuhn/0"]["average"])
        assert single.state["kuhn/0"]["weight"] == pytest.approx(batched.state["kuhn/0"]["weight"], abs=1e-15)
    assert sum(ends) / len(ends) == pytest.approx(batched.state["kuhn/0"]["average"], abs=1e-15)


def test_episode_order_by_hand():
    """decay 0.5, no debiasing. R = 1, 1, 0: b read is 0, 0.5, 0.75; A = 1, 0.5, -0.75; b ends at 0.375."""
    rae = Rae(0.5, order="episode")
    assert rae([trajectory(1.0), trajectory(1.0), trajectory(0.0)]) == [[1.0], [0.5], [-0.75]]
    assert rae.state["kuhn/0"]["average"] == 0.375


def test_paper_order_is_decay_times_episode_order():
    rng = random.Random(1)
    games = [trajectory(rng.uniform(-1, 1), rng.randrange(2)) for _ in range(20)]
    paper, episode = Rae(0.9, "paper"), Rae(0.9, "episode")
    for ours, theirs in zip(paper(games), episode(games), strict=True):
        assert ours == [pytest.approx(0.9 * theirs[0], abs=1e-14)]
    assert paper.state == episode.state


@pytest.mark.parametrize("order", ["batch", "episode", "paper"])
def test_a_run_resumed_through_json_goes_on_exactly(order):
    rng = random.Random(2)
    games = [[trajectory(rng.uniform(-1, 1), rng.randrange(2)) for _ in range(7)] for _ in range(6)]
    whole, before, after = Rae(order=order), Rae(order=order), Rae(order=order)
    expected = [whole(batch) for batch in games]
    assert [before(batch) for batch in games[:3]] == expected[:3]
    after.state = json.loads(json.dumps(before.state))
    assert [after(batch) for batch in games[3:]] == expected[3:]
    assert after.state == whole.state


def test_a_saved_state_is_not_changed_by_later_batches():
    rae = Rae()
    rae([trajectory(1.0)])
    saved = dict(rae.state)
    text = json.dumps(saved)
    rae([trajectory(-1.0)])
    assert json.dumps(saved) == text
    assert isinstance(rae, Stateful)


def test_an_empty_batch():
    rae = Rae()
    assert rae([]) == []
    assert rae.state == {}


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_bad_decay(decay):
    with pytest.raises(SpiralError, match="rae was given decay="):
        Rae(decay)


def test_a_bad_order():
    with pytest.raises(SpiralError, match="order='play'; give one of batch, episode, paper"):
        Rae(order="play")
