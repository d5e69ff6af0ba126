"""Reward shapers by hand arithmetic: who is paid, whether the sum over the players stays, and where it leaks."""

import math
import random
from functools import partial

import pytest
from spiral_advantages.rewards.discount import Discount
from spiral_advantages.rewards.format_bonus import FormatBonus
from spiral_advantages.rewards.illegal_penalty import IllegalPenalty
from spiral_advantages.rewards.length_penalty import LengthPenalty

from spiral import LEARNER, Episode, SpiralError, Trajectory, Turn
from spiral.plugins.registry import Plugins
from spiral.testing import check_reward
from spiral.testing.episodes import random_episode

LEGAL, ILLEGAL, UNREADABLE = ("move", True), ("nonsense", False), (None, False)
SHAPERS = [
    partial(FormatBonus, 0.25),
    partial(IllegalPenalty, 0.5),
    partial(IllegalPenalty, 0.5, zero_sum=False),
    partial(LengthPenalty, 3, 0.25),
    partial(Discount, 0.5),
]


def turn(kind=LEGAL, num_tokens=2, reward=0.0):
    move, legal = kind
    return Turn("seen", (1,), (2,) * num_tokens, (-0.5,) * num_tokens, move, legal, "stop", 0, reward)


def episode(*players, returns=None):
    """A game of the given turns, for each player a list."""
    returns = returns or [(-1.0) ** player for player in range(len(players))]
    trajectories = tuple(
        Trajectory("game", player, LEARNER, amount + sum(t.reward for t in turns), tuple(turns), 0)
        for player, (amount, turns) in enumerate(zip(returns, players, strict=True))
    )
    order = tuple(player for player, turns in enumerate(players) for _ in turns)
    return Episode("game", 0, (LEARNER,) * len(players), tuple(returns), trajectories, order, "finished")


def rewards(shaped):
    return [t.reward for t in shaped.trajectories]


def turn_rewards(shaped):
    return [[turn.reward for turn in t.turns] for t in shaped.trajectories]


def random_games(seed=0, num=60):
    rng = random.Random(seed)
    return [random_episode(rng, game) for _ in range(num // 3) for game in ("solo", "duel", "trio")]


@pytest.mark.parametrize("shaper", SHAPERS)
def test_they_keep_the_promises_of_a_shaper(shaper):
    assert check_reward(shaper) == []


def test_they_are_registered_and_a_run_uses_none_by_default():
    from spiral.config.loading import load

    assert {"format_bonus", "illegal_penalty", "length_penalty", "discount"} <= set(Plugins.installed().names("reward"))
    assert load(None, []).rewards == []


@pytest.mark.parametrize("shaper", SHAPERS)
def test_the_returns_of_the_game_stay(shaper):
    for game in random_games():
        assert shaper()(game).returns == game.returns


@pytest.mark.parametrize("shaper", SHAPERS[:-1])
def test_what_turns_are_given_is_added_on_top_of_what_they_had(shaper):
    """Twice is twice: each application adds the same again, to turns and to totals."""
    for game in random_games(seed=1):
        once = shaper()(game)
        twice = shaper()(once)
        for t, one, two in zip(game.trajectories, once.trajectories, twice.trajectories, strict=True):
            assert two.reward - one.reward == pytest.approx(one.reward - t.reward, abs=1e-12)
            for k, plain in enumerate(t.turns):
                added = one.turns[k].reward - plain.reward
                assert two.turns[k].reward - one.turns[k].reward == pytest.approx(added, abs=1e-12)


def test_the_format_bonus_pays_for_what_can_be_read():
    """Player 0: one readable turn of two; player 1: two, one of them illegal. The leak is 3 bonuses."""
    shaped = FormatBonus(0.25)(episode([turn(), turn(UNREADABLE)], [turn(ILLEGAL), turn()]))
    assert turn_rewards(shaped) == [[0.25, 0.0], [0.25, 0.25]]
    assert rewards(shaped) == [1.25, -0.5]
    assert sum(rewards(shaped)) == 3 * 0.25


def test_the_illegal_penalty_is_paid_to_the_others():
    """Three players; player 0 erred twice, player 2 once: 0 pays 1 and gets 0.25, 1 gets 0.75, 2 pays 0.5, gets 0.5."""
    played = episode([turn(ILLEGAL), turn(UNREADABLE)], [turn()], [turn(ILLEGAL)], returns=[0.0, 0.0, 0.0])
    shaped = IllegalPenalty(0.5)(played)
    assert turn_rewards(shaped) == [[-0.5, -0.5], [0.0], [-0.5]]
    assert rewards(shaped) == [-0.75, 0.75, 0.0]


@pytest.mark.parametrize("game", ["duel", "trio"])
def test_the_illegal_penalty_keeps_every_sum(game):
    rng = random.Random(5)
    for _ in range(100):
        played = random_episode(rng, game)
        assert sum(rewards(IllegalPenalty(0.7)(played))) == pytest.approx(sum(rewards(played)), abs=1e-12)


def test_the_illegal_penalty_leaks_where_it_says_so():
    """Without zero_sum, and for a single player: the sum falls by the penalty for each illegal turn."""
    two = episode([turn(ILLEGAL), turn(UNREADABLE)], [turn()])
    assert rewards(IllegalPenalty(0.5, zero_sum=False)(two)) == [0.0, -1.0]
    one = episode([turn(ILLEGAL)], returns=[1.0])
    assert rewards(IllegalPenalty(0.5)(one)) == [0.5]


def test_the_length_penalty_is_for_tokens_beyond_the_target():
    """Target 4: replies of 4, 5 and 10 tokens cost 0, 1 and 6 times 0.25; a bot's turn has none."""
    shaped = LengthPenalty(4, 0.25)(episode([turn(num_tokens=4), turn(num_tokens=5)], [turn(num_tokens=10)], []))
    assert turn_rewards(shaped) == [[0.0, -0.25], [-1.5], []]
    assert rewards(shaped) == [0.75, -2.5, 1.0]
    bot = episode([turn(num_tokens=0)], [turn(num_tokens=9)])
    assert rewards(LengthPenalty(0, 0.5)(bot)) == [1.0, -5.5]


def test_the_discount_is_by_own_turns_and_not_zero_sum():
    """The first player wins with its third move: 1/4 against -1/2, as the docstring says. No turn or one: as it was."""
    assert rewards(Discount(0.5)(episode([turn()] * 3, [turn()] * 2))) == [0.25, -0.5]
    assert rewards(Discount(0.5)(episode([turn()], []))) == [1.0, -1.0]
    assert sum(rewards(Discount(0.5)(episode([turn()] * 3, [turn()] * 3)))) == 0.0


def test_the_discount_takes_in_what_came_before_it_and_not_what_comes_after():
    """Return 1, two turns, a bonus of 0.5 each: (1 + 1) / 2 = 1, or 1/2 + 1 = 1.5. Turns and total agree."""
    played, bonus, discount = episode([turn(), turn()], returns=[1.0]), FormatBonus(0.5), Discount(0.5)
    before, after = discount(bonus(played)), bonus(discount(played))
    assert (rewards(before), turn_rewards(before)) == ([1.0], [[0.25, 0.25]])
    assert (rewards(after), turn_rewards(after)) == ([1.5], [[0.5, 0.5]])


def test_a_game_that_a_shaper_has_nothing_to_say_about_is_as_it_was():
    played = episode([turn()], [turn(), turn()])
    assert IllegalPenalty()(played) == LengthPenalty()(played) == Discount(1.0)(played) == played


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(FormatBonus, math.nan), "format_bonus was given bonus=nan"),
        (partial(IllegalPenalty, -1.0), "illegal_penalty was given penalty=-1.0"),
        (partial(LengthPenalty, -1), "length_penalty was given target_tokens=-1"),
        (partial(LengthPenalty, 1, math.inf), "length_penalty was given weight=inf"),
        (partial(Discount, 0.0), "discount was given gamma=0.0"),
        (partial(Discount, 1.5), "discount was given gamma=1.5"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(SpiralError, match=words):
        make()
