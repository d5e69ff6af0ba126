"""A match of liar's dice: who loses dice, who opens, who wins, and that nothing hidden shows."""

import copy
import pickle
import random
from functools import partial

import pytest
from spiral_games.native.liars_dice_match import LiarsDiceMatch

from spiral import Enumerable, IllegalMove, SpiralError
from spiral.testing import check_game


class Loaded(random.Random):
    """Dice that fall as told: one string a roll."""

    def __init__(self, *hands):
        super().__init__(0)
        self.hands = list(hands)

    def choices(self, population, weights=None, *, cum_weights=None, k=1):
        hand = self.hands.pop(0)
        assert len(hand) == k
        return list(hand)


def rolled(*hands, **args):
    game = LiarsDiceMatch(**args)
    game.reset(Loaded(*hands))
    return game


def play(game, moves):
    for move in moves.split():
        game.play(move)
    return game


@pytest.mark.parametrize("args", [{}, {"dice": 2, "players": 3}, {"dice": 1, "players": 4, "wild": 1}], ids=str)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(LiarsDiceMatch, **args), num_matches=10) == []


def test_the_loser_opens_and_has_a_die_less():
    game = play(rolled("63", "11", "25", "4", "6", "4", dice=2), "1x6 2x6 liar")  # player 1's bid is false
    assert game.current_player() == 1
    assert game.observe(0) == "liar p0 25 2/1 p1; last 36/11 p0 1x6 2x6 liar"
    assert game.observe(1) == "liar p1 4 2/1 p1; last 36/11 p0 1x6 2x6 liar"
    assert game.legal_moves()[-1] == "3x6"  # three dice are left
    play(game, "1x4 liar")  # true: player 0 doubted it
    assert game.current_player() == 0
    assert game.observe(1) == "liar p1 4 1/1 p0; last 25/4 p1 1x4 liar"
    play(game, "1x5 liar")
    assert game.current_player() is None
    assert game.observe(1) == "liar p1 0/1 over; last 6/4 p0 1x5 liar"
    assert game.returns() == [-1, 1]
    assert game.legal_moves() == []
    with pytest.raises(IllegalMove, match="over"):
        game.play("liar")


def test_who_is_out_is_passed_over_and_the_next_player_opens():
    game = rolled("1", "2", "3", "1", "", "3", dice=1, players=3)
    play(game, "1x1 1x6 liar")  # player 1's bid is false: it is out, and player 2 opens
    assert game.current_player() == 2
    assert game.observe(1) == "liar p1 - 1/0/1 p2; last 1/2/3 p0 1x1 1x6 liar"
    play(game, "1x2")
    assert game.current_player() == 0
    play(game, "1x3")
    assert game.current_player() == 2
    play(game, "liar")  # player 0's bid is true of player 2's own die
    assert game.returns() == [1, -0.5, -0.5]
    assert game.worst_return == -0.5


def test_every_challenge_takes_one_die_from_its_loser():
    rng = random.Random(4)
    for _ in range(60):
        game = LiarsDiceMatch(dice=2, players=3)
        game.reset(rng)
        total, challenges = 6, 0
        while game.current_player() is not None:
            move = rng.choice(game.legal_moves())
            game.play(move)
            challenges += move == "liar"
            words = game.observe(0).split(";")[0].split()
            counts = words[2] if words[-1] == "over" else words[3]
            assert sum(map(int, counts.split("/"))) == total - challenges
        assert challenges <= 5
        assert sum(game.returns()) == 0
        assert sorted(game.returns()) == [-0.5, -0.5, 1]


@pytest.mark.parametrize("player", [0, 1])
def test_resample_redraws_hidden_dice_and_later_rolls(player):
    hidden, later = set(), set()
    for seed in range(30):
        game = LiarsDiceMatch(dice=2)
        game.reset(random.Random(0))
        mine = game.observe(player)
        game.resample(player, random.Random(seed))
        assert game.observe(player) == mine
        hidden.add(game.observe(1 - player))
        play(game, "1x1 4x6 liar")
        later.add(game.observe(0).split()[2])
    assert len(hidden) > 10
    assert len(later) > 5


@pytest.mark.parametrize("move", ["liar", "5x1", "1x7", "no", ""])
def test_an_illegal_move_changes_nothing(move):
    game = LiarsDiceMatch(dice=2)
    game.reset(random.Random(0))
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove):
        game.play(move)
    assert pickle.dumps(game) == before


def test_copies_roll_alike_and_apart():
    game = LiarsDiceMatch(dice=2)
    game.reset(random.Random(0))
    twin = copy.deepcopy(game)
    for one in (game, twin):
        play(one, "1x1 liar")
    assert game.observe(0) == twin.observe(0)
    assert game.observe(1) == twin.observe(1)


def test_it_is_not_enumerable_since_dice_are_rolled_in_play():
    assert not isinstance(LiarsDiceMatch(), Enumerable)


def test_arguments_are_those_of_a_round():
    with pytest.raises(SpiralError, match="players=7"):
        LiarsDiceMatch(players=7)
