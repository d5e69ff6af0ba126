"""REINFORCE, GRPO and RLOO by hand arithmetic; none of them has state."""

import itertools

import pytest
from spiral_advantages.grpo import Grpo
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.rloo import Rloo

from spiral import LEARNER, SpiralError, Stateful, Trajectory, Turn

TURN = Turn("seen", (1,), (2,), (-0.5,), "move", True, "stop", 0)


def trajectory(reward, player=0, deal=0, game="kuhn", num_turns=1):
    return Trajectory(game, player, LEARNER, reward, (TURN,) * num_turns, deal)


def test_reinforce_is_the_return():
    assert Reinforce()([trajectory(2.0, num_turns=2), trajectory(-1.0, num_turns=0)]) == [[2.0, 2.0], []]


def test_reinforce_batch_by_hand():
    """Player 0: mean (2 - 1 - 1) / 3 = 0. Player 1: mean 1 / 2. The other game's only return becomes 0."""
    games = [trajectory(2.0), trajectory(-1.0, deal=1), trajectory(-1.0, deal=2)]
    games += [trajectory(1.0, 1), trajectory(0.0, 1), trajectory(5.0, game="ttt")]
    assert Reinforce("batch")(games) == [[2.0], [-1.0], [-1.0], [0.5], [-0.5], [0.0]]


def test_grpo_by_hand():
    """Deal 0: 1 and 3: mean 2, deviation 1. Deal 1: 0, 0 and 3: mean 1, deviation sqrt(2)."""
    games = [trajectory(1.0), trajectory(3.0), *(trajectory(r, deal=1) for r in (0.0, 0.0, 3.0))]
    assert Grpo(std=False)(games) == [[-1.0], [1.0], [-1.0], [-1.0], [2.0]]
    found = [credit for (credit,) in Grpo(eps=1e-12)(games)]
    assert found == pytest.approx([-1.0, 1.0, -(2**-0.5), -(2**-0.5), 2**0.5], abs=1e-11)


def test_grpo_forgets_what_was_at_stake():
    """The bias in one line: a deal played for 1 chip and a deal played for 100 get the same advantages."""
    games = [trajectory(r, deal=d) for d, r in ((0, 1.0), (0, -1.0), (1, 100.0), (1, -100.0))]
    small, _, large, _ = (credit for (credit,) in Grpo()(games))
    assert small == pytest.approx(large, abs=1e-3)


def test_grpo_of_equal_returns_is_zero():
    assert Grpo()([trajectory(1.0)] * 3) == [[0.0]] * 3
    # 0.1 * 3 / 3 is not 0.1 in floating point; eps keeps the last bit from being blown up to 1.
    assert Grpo()([trajectory(0.1)] * 3) == [[pytest.approx(0, abs=1e-11)]] * 3


def test_rloo_by_hand():
    """Returns 1, 2, 6 against the means of the others: 1 - 4, 2 - 3.5, 6 - 1.5."""
    games = [trajectory(1.0, num_turns=2), trajectory(2.0), trajectory(6.0)]
    assert Rloo()(games) == [[-3.0, -3.0], [-1.5], [4.5]]


def test_rloo_is_grpo_without_std_stretched():
    """n / (n - 1) in groups of n: 4 / 3."""
    games = [trajectory(r) for r in (0.25, -1.0, 2.0, 0.5)]
    for (ours,), (theirs,) in zip(Rloo()(games), Grpo(std=False)(games), strict=True):
        assert ours == pytest.approx(4 / 3 * theirs, abs=1e-15)


@pytest.mark.parametrize("estimator", [Grpo(), Grpo(std=False), Rloo()])
def test_groups_are_of_one_game_deal_and_player(estimator):
    """Two equal returns a group: everything is 0, which any mixing of the groups would spoil."""
    keys = itertools.product(("kuhn", "ttt"), (0, 1), (0, 7))
    games = [trajectory(float(n), player, deal, game) for n, (game, player, deal) in enumerate(keys)]
    assert estimator(games + games) == [[0.0]] * 16


@pytest.mark.parametrize("estimator", [Reinforce("batch"), Grpo(), Grpo(std=False), Rloo()])
def test_the_order_of_the_games_does_not_matter(estimator):
    games = [trajectory(r, deal=i % 2) for i, r in enumerate((0.1, 0.7, -1.3, 0.2, 0.9, -0.4))]
    expected = estimator(games)
    for order in itertools.permutations(range(6)):
        found = estimator([games[i] for i in order])
        assert [found[order.index(i)] for i in range(6)] == expected  # exactly, not nearly


@pytest.mark.parametrize("estimator", [Grpo(), Rloo()])
def test_a_group_of_one_is_refused(estimator):
    with pytest.raises(SpiralError, match=r"player 1 of kuhn only once in deal 9; set rollout\.group_size"):
        estimator([trajectory(1.0), trajectory(1.0), trajectory(1.0, 1, 9)])


@pytest.mark.parametrize("estimator", [Reinforce(), Reinforce("batch"), Grpo(), Rloo()])
def test_edges(estimator):
    assert estimator([]) == []
    assert estimator([trajectory(1.0, num_turns=0), trajectory(1.0, num_turns=0)]) == [[], []]
    assert not isinstance(estimator, Stateful)


def test_bad_arguments():
    with pytest.raises(SpiralError, match="baseline='mean'; give none or batch"):
        Reinforce("mean")
    with pytest.raises(SpiralError, match="eps=0"):
        Grpo(eps=0)
