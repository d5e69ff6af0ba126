"""Guess the number: its answers by hand, and bisection as the best that any player can do."""

import pickle
import random
from functools import cache, partial

import pytest
from spiral_games.native.guess_the_number import GuessTheNumber

from spiral import Enumerable, IllegalMove, SpiralError, is_zero_sum
from spiral.testing import check_game
from spiral.theory import GameTree, best_response, nash_conv, uniform, values


def secret(number, moves=""):
    game = GuessTheNumber(numbers=9, guesses=5)
    game.reset_to(number)
    for move in moves.split():
        game.play(move)
    return game


@pytest.mark.parametrize("args", [{}, {"numbers": 64, "guesses": 7}, {"numbers": 2, "guesses": 1}], ids=str)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(GuessTheNumber, **args)) == []


@pytest.mark.parametrize(
    ("moves", "text", "value"),
    [
        ("6", "guess found 6", 1),
        ("5 6", "guess found 6", 0.6),
        ("1 9 5 7 6", "guess found 6", -0.6),
        ("1 2 3 4 5", "guess over 6-9", -1),
    ],
)
def test_the_return_falls_with_every_miss(moves, text, value):
    game = secret(6, moves)
    assert game.current_player() is None
    assert game.legal_moves() == []
    assert game.observe(0) == text
    assert game.returns() == pytest.approx([value])


def test_answers_narrow_the_range():
    game, seen = secret(6), []
    for guess in ("2", "8", "5"):
        seen.append(game.observe(0))
        game.play(guess)
    assert [*seen, game.observe(0)] == ["guess 1/5 1-9", "guess 2/5 3-9", "guess 3/5 3-7", "guess 4/5 6-7"]
    assert game.legal_moves() == ["6", "7"]


@pytest.mark.parametrize(
    ("moves", "move", "reason"),
    [
        ("", "0", "from 1 to 9"), ("", "10", "from 1 to 9"), ("", "05", "from 1 to 9"), ("", "", "from 1 to 9"),
        ("", "²", "from 1 to 9"), ("", "٢", "from 1 to 9"), ("", "five", "from 1 to 9"), ("4", "4", "from 5 to 9"),
        ("8 4", "8", "from 5 to 7"), ("6", "6", "over"),
    ],
)  # fmt: skip
def test_an_illegal_move_says_what_is_legal_and_changes_nothing(moves, move, reason):
    game = secret(6, moves)
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == before


def bisection(tree):
    """Always the lower middle of the range."""
    return {d.observation: {d.moves[(len(d.moves) - 1) // 2]: 1.0} for d in tree.decisions}


@cache
def optimum(numbers, guesses, left):
    """The most misses that can be saved, summed over secrets, from a range of `numbers` and `left` guesses."""
    if numbers == 0 or left == 0:
        return 0.0
    return max(
        left + optimum(low, guesses, left - 1) + optimum(numbers - 1 - low, guesses, left - 1) for low in range(numbers)
    )


@pytest.mark.parametrize("args", [(8, 4), (9, 5), (7, 3), (10, 2), (4, 4), (6, 1)])
def test_bisection_is_optimal(args):
    """The tree's best response, a dynamic programme over the range's length, and bisection: one number."""
    tree = GameTree.of(GuessTheNumber(*args))
    numbers, guesses = args
    best, _ = best_response(tree, uniform(tree), 0)
    assert best == pytest.approx(2 * optimum(numbers, guesses, guesses) / (guesses * numbers) - 1)
    assert values(tree, bisection(tree))[0] == pytest.approx(best)
    assert nash_conv(tree, bisection(tree)).nash_conv == pytest.approx(0, abs=1e-12)


@cache
def saved(numbers, left):
    """Guesses to spare, the finding one included, expected of uniform play on a range with `left` guesses."""
    if numbers == 0 or left == 0:
        return 0.0
    below = sum(low * saved(low, left - 1) for low in range(numbers))  # the range below is hit low times of numbers
    return (left + 2 * below / numbers) / numbers


def random_play(numbers, guesses):
    return 2 * saved(numbers, guesses) / guesses - 1


def test_values_of_the_default():
    """Bisection of 8 numbers needs 1, 2, 3, 4 guesses for 1, 2, 4, 1 of them: 13 misses, so 1 - 2/4 * 13/8."""
    tree = GameTree.of(GuessTheNumber())
    assert values(tree, bisection(tree))[0] == pytest.approx(1 - 2 / 4 * 13 / 8)
    assert values(tree, uniform(tree))[0] == pytest.approx(random_play(8, 4), abs=1e-12)


def test_the_secret_is_uniform_and_hidden():
    game = GuessTheNumber(numbers=9)
    assert isinstance(game, Enumerable)
    assert not is_zero_sum(game)
    assert [deal for _, deal in game.deals()] == list(range(1, 10))
    assert {secret(number, "5").observe(0) for number in (6, 7, 8, 9)} == {"guess 2/5 6-9"}
    found = set()
    for seed in range(60):
        game = secret(6, "4 8")
        game.resample(0, random.Random(seed))
        assert game.observe(0) == "guess 3/5 5-7"
        found |= {number for number in range(5, 8) if number == game._secret}
    assert found == {5, 6, 7}


@pytest.mark.parametrize("args", [{"numbers": 1}, {"numbers": 1001}, {"guesses": 0}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        GuessTheNumber(**args)
