"""Pig by hand, and its exact optimum: expectimax on the game itself against a dynamic programme of the rules."""

import copy
import pickle
import random
from functools import cache, partial

import pytest
from spiral_games.native.pig_dice import PigDice

from spiral import Enumerable, IllegalMove, SpiralError
from spiral.testing import check_game


class Loaded(random.Random):
    """A die that falls as told."""

    def __init__(self, faces=()):
        super().__init__(0)
        self.faces = list(faces)

    def randint(self, low, high):
        assert (low, high) == (1, 6)
        return self.faces.pop(0)


def played(moves, faces=(), **args):
    game = PigDice(**args)
    game.reset(Loaded(faces))
    for move in moves.split():
        game.play(move)
    return game


@pytest.mark.parametrize("args", [{}, {"target": 100, "turns": 20}, {"target": 2, "turns": 2}], ids=str)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(PigDice, **args), num_matches=10) == []


@pytest.mark.parametrize(
    ("moves", "faces", "texts"),
    [
        ("", [], ["pig p0 0 0 +0 1/40", "pig p1 0 0 +0 1/40"]),
        ("roll roll", [6, 2], ["pig p0 0 0 +8 1/40", "pig p1 0 0 +8 1/40"]),
        ("roll roll", [6, 1], ["pig p0 0 0 +0 2/40", "pig p1 0 0 +0 2/40"]),  # a 1 loses the turn's total
        ("roll hold", [6], ["pig p0 6 0 +0 2/40", "pig p1 0 6 +0 2/40"]),
        ("hold", [], ["pig p0 0 0 +0 2/40", "pig p1 0 0 +0 2/40"]),
        ("roll hold roll roll hold roll roll", [6, 5, 4, 3, 1], ["pig p0 6 9 +0 4/40", "pig p1 9 6 +0 4/40"]),
    ],
)
def test_turns_by_hand(moves, faces, texts):
    game = played(moves, faces)
    assert [game.observe(player) for player in (0, 1)] == texts


def test_who_moves():
    game = played("", [6, 2, 1, 3])
    movers = []
    for move in ["roll", "roll", "hold", "roll", "roll", "hold"]:
        movers.append(game.current_player())
        game.play(move)
    assert movers == [0, 0, 0, 1, 0, 0]


def test_reaching_the_target_wins_at_once():
    game = played("roll hold roll hold roll roll", [6, 3, 2, 3], target=11)
    assert game.current_player() is None
    assert game.legal_moves() == []
    assert game.observe(1) == "pig p1 3 11 over"
    assert game.returns() == [1, -1]


@pytest.mark.parametrize(
    ("moves", "faces", "returns"),
    [("roll hold roll hold", [2, 3], [-1, 1]), ("roll hold hold", [2], [1, -1]), ("hold hold", [], [0, 0])],
)
def test_after_the_last_turn_the_higher_score_wins(moves, faces, returns):
    game = played(moves, faces, turns=2)
    assert game.current_player() is None
    assert game.returns() == returns


@pytest.mark.parametrize("move", ["Roll", "roll ", "", "0", "pass"])
def test_an_illegal_move_changes_nothing(move):
    game = PigDice()
    game.reset(random.Random(0))
    game.play("roll")
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match="roll or hold"):
        game.play(move)
    assert pickle.dumps(game) == before


def test_no_move_after_the_end():
    with pytest.raises(IllegalMove, match="over"):
        played("hold hold", turns=2).play("roll")


def test_dice_are_fair_and_come_from_the_generator():
    rng, falls = random.Random(3), [0] * 7
    game = PigDice(target=1000, turns=10**6)
    game.reset(rng)
    for _ in range(6000):
        before = int(game.observe(game.current_player()).split()[4])
        game.play("roll")
        after = int(game.observe(game.current_player()).split()[4])
        falls[after - before if after > before else 1] += 1
        if after > 900:
            game.play("hold")
            game.reset(rng)
    assert all(abs(count - 1000) < 150 for count in falls[1:])  # 5 standard deviations


def test_resample_changes_only_how_the_dice_will_fall():
    seen = set()
    for seed in range(30):
        game = PigDice()
        game.reset(random.Random(0))
        game.play("hold")
        before = game.observe(0), game.observe(1)
        game.resample(1, random.Random(seed))
        assert (game.observe(0), game.observe(1)) == before
        game.play("roll")
        seen.add(game.observe(1))
    assert len(seen) == 6
    assert not isinstance(game, Enumerable)


def expected(target, turns, choose):
    """Player 0's return by the rules alone; `choose(mine, other, total, turn, worth of each move)` gives the move.

    The state is the mover's score, the other's, the turn's total and the turns that have ended.
    """

    @cache
    def value(mine, other, total, turn):
        if mine + total >= target:
            return 1.0
        held = passed(mine + total, other, turn)
        rolled = (passed(mine, other, turn) + sum(value(mine, other, total + face, turn) for face in range(2, 7))) / 6
        return {"hold": held, "roll": rolled}[choose(mine, other, total, turn, held, rolled)]

    def passed(mine, other, turn):
        if turn + 1 == turns:
            return float((mine > other) - (mine < other))
        return -value(other, mine, 0, turn + 1)

    return value(0, 0, 0, 0)


def best(mine, other, total, turn, held, rolled):
    return "hold" if held > rolled else "roll"


def hold_at(number):
    return lambda mine, other, total, turn, held, rolled: "hold" if total >= number else "roll"


def expectimax(game, known):
    """Player 0's return with best play by both, from the game itself: every face is tried at every roll."""
    player = game.current_player()
    if player is None:
        return game.returns()[0]
    key = player, game.observe(player)
    if key not in known:
        worths = []
        for move, falls in (("hold", [0]), ("roll", range(1, 7))):
            after = []
            for face in falls:
                child = copy.copy(game)
                child._rng = Loaded([face])
                child.play(move)
                after.append(expectimax(child, known))
            worths.append(sum(after) / len(after))
        known[key] = max(worths) if player == 0 else min(worths)
    return known[key]


@pytest.mark.parametrize(("target", "turns"), [(3, 2), (6, 3), (8, 6), (10, 8)])
def test_the_games_exact_optimum_is_that_of_the_rules(target, turns):
    game = PigDice(target, turns)
    game.reset(random.Random(0))
    assert expectimax(game, {}) == pytest.approx(expected(target, turns, best))


def test_one_roll_decides_a_race_to_two():
    """Player 0 wins with 5/6; then player 1 with 5/6 of the rest, and with 4 turns once more each."""
    first = 5 / 6 * (1 + 1 / 36)
    second = 1 / 6 * 5 / 6 * (1 + 1 / 36)
    assert expected(2, 4, best) == pytest.approx(first - second)


def loss(number, player, target, turns):
    """What a player who holds at a fixed total loses against best play, compared with best play of its own."""

    def choose(*state):
        return hold_at(number)(*state) if state[3] % 2 == player else best(*state)

    difference = expected(target, turns, best) - expected(target, turns, choose)
    return difference if player == 0 else -difference


@pytest.mark.parametrize("player", [0, 1])
def test_a_race_to_20_is_best_run_in_one_turn(player):
    """No player should hold early there: to roll on whatever happens costs next to nothing, every fixed total much."""
    assert 0 <= loss(20, player, 20, 10) < 0.01
    assert min(loss(number, player, 20, 10) for number in (4, 8, 12, 16)) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("player", [0, 1])
def test_in_a_race_to_40_the_scores_must_decide(player):
    """Neither rolling on for ever nor a fixed total is best."""
    assert min(loss(number, player, 40, 20) for number in (10, 15, 20, 25, 40)) > 0.02


@pytest.mark.parametrize("args", [{"target": 1}, {"turns": 1}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        PigDice(**args)
