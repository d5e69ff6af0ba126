"""The Kuhn equilibrium bot: its value by enumeration, its range, and what it refuses."""

import copy
import random
from collections import Counter

import pytest
from spiral_games.bots.kuhn_equilibrium import Equilibrium
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.tic_tac_toe import TicTacToe

from spiral import SpiralError


def value(game, first, second):
    """Player 0's expected return from here, player 0 playing `first` and player 1 `second`; exact."""
    player = game.current_player()
    if player is None:
        return game.returns()[0]
    total = 0.0
    for move, probability in (first, second)[player].probabilities(game, player).items():
        after = copy.deepcopy(game)
        after.play(move)
        total += probability * value(after, first, second)
    return total


def expected(rounds, first, second):
    game, total = KuhnPoker(rounds), 0.0
    for probability, deal in game.deals():
        game.reset_to(deal)
        total += probability * value(game, first, second)
    return total


class Always:
    """Puts a chip in whenever it can (`bold`), or never."""

    def __init__(self, bold):
        self.bold = bold

    def probabilities(self, game, player):
        bold = {"check": "bet", "fold": "call"}
        legal = game.legal_moves()
        timid = "check" if "check" in legal else "fold"
        return {bold[timid] if self.bold else timid: 1.0}


@pytest.mark.parametrize("alpha", [0, 0.1, 1 / 6, 1 / 3])
@pytest.mark.parametrize("other", [0, 1 / 3])
def test_two_equilibria_are_worth_minus_one_eighteenth(alpha, other):
    assert expected(1, Equilibrium(alpha), Equilibrium(other)) == pytest.approx(-1 / 18, abs=1e-12)


def test_an_even_match_is_worth_nothing():
    """Each player is first once; the bot must read round 2 as it reads round 1."""
    assert expected(2, Equilibrium(), Equilibrium(0.3)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("alpha", [0, 0.2, 1 / 3])
@pytest.mark.parametrize("bold", [True, False])
def test_simple_opponents_gain_nothing(alpha, bold):
    bot, other = Equilibrium(alpha), Always(bold)
    assert expected(1, bot, other) >= -1 / 18 - 1e-12
    assert expected(1, other, bot) <= -1 / 18 + 1e-12


@pytest.mark.parametrize(
    ("deal", "line", "move", "probability"),
    [
        ("JQ", "", "bet", 0.2), ("QK", "", "bet", 0), ("KQ", "", "bet", 0.6),
        ("JQ", "check bet", "call", 0), ("QK", "check bet", "call", 8 / 15), ("KQ", "check bet", "call", 1),
        ("QJ", "check", "bet", 1 / 3), ("JQ", "check", "bet", 0), ("JK", "check", "bet", 1),
        ("QJ", "bet", "call", 0), ("JQ", "bet", "call", 1 / 3), ("JK", "bet", "call", 1),
    ],
)  # fmt: skip
def test_the_bot_follows_kuhns_table(deal, line, move, probability):
    game = KuhnPoker()
    game.reset_to((deal,))
    for made in line.split():
        game.play(made)
    player = game.current_player()
    bot, rng = Equilibrium(alpha=0.2), random.Random(3)
    assert bot.probabilities(game, player)[move] == pytest.approx(probability)
    counts = Counter(bot.choose(game, player, rng) for _ in range(2000))
    assert set(counts) <= set(game.legal_moves())
    assert counts[move] / 2000 == pytest.approx(probability, abs=0.05)  # over 4 standard deviations


@pytest.mark.parametrize("alpha", [-0.01, 0.34, 1.0, float("nan")])
def test_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(SpiralError, match="0 to 1/3"):
        Equilibrium(alpha)


def test_another_game_is_refused():
    game = TicTacToe()
    game.reset(random.Random(0))
    with pytest.raises(SpiralError, match="kuhn_poker only, not TicTacToe"):
        Equilibrium().choose(game, 0, random.Random(0))
