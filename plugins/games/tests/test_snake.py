"""Snake by hand: growth, every way to die, who wins, and that a choice is hidden until both have chosen."""

import pickle
import random
from functools import partial

import pytest
from spiral_games.native.snake import SnakeGame

from spiral import Enumerable, IllegalMove, SpiralError
from spiral.testing import check_game

WORDS = {"u": "up", "d": "down", "l": "left", "r": "right"}


class Loaded(random.Random):
    """Apples that fall as told."""

    def __init__(self, *squares):
        super().__init__(0)
        self.squares = list(squares)

    def choice(self, seq):
        square = self.squares.pop(0) if self.squares else seq[-1]
        assert square in seq
        return square


def played(said="", apples=((2, 2),), **args):
    """Letters in pairs, player 0's first."""
    game = SnakeGame(**args)
    game.reset(Loaded(*apples))
    for letter in said.replace(" ", ""):
        game.play(WORDS[letter])
    return game


@pytest.mark.parametrize("args", [{}, {"rows": 3, "cols": 3, "rounds": 4}, {"rows": 10, "cols": 4}], ids=str)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(SnakeGame, **args)) == []


def test_each_player_sees_the_board_with_its_own_snake():
    game = played()
    assert game.observe(0) == "snake p0 1/20 h..../H..../..*../....O/....o"
    assert game.observe(1) == "snake p1 1/20 o..../O..../..*../....H/....h"


def test_both_move_at_once_and_a_choice_is_hidden_until_then():
    game = played()
    before = game.observe(1)
    assert game.current_player() == 0
    game.play("down")
    assert game.current_player() == 1
    assert game.observe(1) == before
    assert game.observe(0) == "snake p0 1/20 h..../H..../..*../....O/....o down"
    game.play("up")
    assert game.observe(0) == "snake p0 2/20 ...../h..../H.*.O/....o/....."


def test_an_apple_makes_a_snake_longer_and_a_new_one_falls():
    game = played("ru ru", apples=((1, 2), (4, 0)))
    assert game.observe(0) == "snake p0 3/20 ...../hhH.O/....o/...../*...."


@pytest.mark.parametrize(
    ("said", "apples", "returns"),
    [
        ("lu", ((2, 2),), [-1, 1]),  # over the edge
        ("dr", ((2, 2),), [1, -1]),
        ("lr", ((2, 2),), [0, 0]),  # both at once
        ("ru rl", ((1, 1), (4, 0)), None),
        ("ru lu", ((1, 1), (4, 0)), [-1, 1]),  # back into one's own body, from three squares on
        ("ru lu", ((2, 2),), None),  # a snake of two turns round: its tail makes room
        ("dl dl rl", ((0, 4),), [0, 0]),  # head to head
        ("rl rl dl dl", ((3, 3), (0, 4)), [-1, 1]),  # into the other's tail, an apple long
        ("rl rl dl dl", ((0, 4),), None),  # without the apple the tail has made room
    ],
)
def test_ways_to_die(said, apples, returns):
    game = played(said, apples)
    assert (game.current_player() is None) == (returns is not None)
    assert game.returns() == (returns or [0, 0])
    assert (game.legal_moves() == []) == (returns is not None)


def test_two_snakes_cannot_change_places():
    """Each head meets the other's body. On 5 x 5 the heads are always an even number of squares apart."""
    game = played("rl rl", rows=4, apples=((0, 4),))
    assert game.observe(0) == "snake p0 3/20 ....*/.hH../..Oo./....."
    game.play("down")
    game.play("up")
    assert game.current_player() is None
    assert game.returns() == [0, 0]


@pytest.mark.parametrize(("apple", "returns"), [((1, 1), [1, -1]), ((3, 3), [-1, 1]), ((2, 2), [0, 0])])
def test_after_the_last_round_the_longer_snake_wins(apple, returns):
    game = played("rl", apples=(apple, (4, 0)), rounds=1)
    assert game.current_player() is None
    assert game.returns() == returns


@pytest.mark.parametrize("move", ["north", "Up", "u", "", "0"])
@pytest.mark.parametrize("chosen", ["", "d"])
def test_an_illegal_move_changes_nothing(move, chosen):
    game = SnakeGame()
    game.reset(random.Random(0))
    for letter in chosen:
        game.play(WORDS[letter])
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match="up, down, left or right"):
        game.play(move)
    assert pickle.dumps(game) == before


def test_no_move_after_the_end():
    with pytest.raises(IllegalMove, match="over"):
        played("lu").play("up")


def test_resample_redraws_the_hidden_choice_and_later_apples():
    ends = set()
    for seed in range(40):
        game = SnakeGame()
        game.reset(random.Random(1))
        game.play("down")
        before = game.observe(1)
        game.resample(1, random.Random(seed))
        assert game.observe(1) == before
        game.play("up")
        ends.add(game.observe(1).split()[3])
    assert len({board.replace("*", ".") for board in ends}) == 4  # one a direction
    assert len(ends) > 4  # the apple that was eaten fell elsewhere
    game = played("d")
    before = game.observe(0)
    game.resample(0, random.Random(0))
    assert game.observe(0) == before
    assert not isinstance(game, Enumerable)


def test_a_living_snake_has_as_many_squares_as_it_ate_apples_and_two():
    rng = random.Random(5)
    for _ in range(200):
        game = SnakeGame(rows=4, cols=4)
        game.reset(rng)
        eaten = 0
        while game.current_player() is not None:
            board = game.observe(0).split()[3]
            assert board.count("H") == board.count("O") == 1
            assert board.count("h") + board.count("o") == 2 + eaten
            assert board.count("*") == 1
            apple = board.index("*")
            game.play(rng.choice(game.legal_moves()))
            game.play(rng.choice(game.legal_moves()))
            if game.current_player() is not None:
                eaten += game.observe(0).split()[3][apple] in "HO"


@pytest.mark.parametrize("args", [{"rows": 2}, {"cols": 11}, {"rounds": 0}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        SnakeGame(**args)
