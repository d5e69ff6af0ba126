"""Tic-tac-toe against the numbers of the full game tree, and against its rules by hand."""

import copy
import pickle
import random
from collections import Counter

import pytest
from spiral_games.native.tic_tac_toe import TicTacToe

from spiral import Enumerable, IllegalMove


def started():
    game = TicTacToe()
    game.reset(random.Random(0))
    return game


def played(squares):
    game = started()
    for square in squares:
        game.play(square)
    return game


def test_the_whole_tree_has_the_known_size():
    """5478 positions, 626 + 316 + 16 ends and 255168 matches: published counts, see the game's page."""
    plays, ends = {}, Counter()

    def count(game):
        board = game.observe(0)
        if board not in plays:
            if game.current_player() is None:
                ends[game.returns()[0]] += 1
                plays[board] = 1
            else:
                plays[board] = 0  # set below; a position cannot come after itself
                total = 0
                for move in game.legal_moves():
                    after = copy.deepcopy(game)
                    after.play(move)
                    total += count(after)
                plays[board] = total
        return plays[board]

    assert count(started()) == 255168
    assert len(plays) == 5478
    assert ends == {1.0: 626, -1.0: 316, 0.0: 16}


# The loser's moves are chosen so that they make no line.
@pytest.mark.parametrize(
    ("line", "others"),
    [("012", "34"), ("345", "01"), ("678", "01"), ("036", "12"), ("147", "02"), ("258", "01"), ("048", "12"),
     ("246", "01")],
)  # fmt: skip
def test_every_line_wins_for_both(line, others):
    as_x = line[0] + others[0] + line[1] + others[1]
    game = played(as_x)
    assert game.current_player() == 0
    game.play(line[2])
    assert game.current_player() is None
    assert game.legal_moves() == []
    assert game.returns() == [1, -1]
    # X needs a third harmless square before O completes the line.
    third = next(s for s in "876543210" if s not in line + others and not makes_line(others + s))
    game = played(others[0] + line[0] + others[1] + line[1] + third + line[2])
    assert game.current_player() is None
    assert game.returns() == [-1, 1]


def makes_line(squares):
    return "".join(sorted(squares)) in {"012", "345", "678", "036", "147", "258", "048", "246"}


def test_a_full_board_without_a_line_is_a_draw():
    game = played("012435768")
    assert game.current_player() is None
    assert game.returns() == [0, 0]


def test_a_line_on_the_last_square_wins():
    game = played("012375468")
    assert game.observe(0) == "ttt X XOX/OXO/OXX"
    assert game.returns() == [1, -1]


def test_observation_shows_mark_rows_and_free_squares():
    game = played("043")
    assert game.observe(0) == "ttt X X12/XO5/678"
    assert game.observe(1) == "ttt O X12/XO5/678"
    assert game.current_player() == 1
    assert game.legal_moves() == list("125678")


@pytest.mark.parametrize(
    ("move", "reason"),
    [("0", "taken"), ("9", "digit"), ("", "digit"), ("12", "digit"), ("X", "digit"), ("²", "digit")],
)
def test_an_illegal_move_changes_nothing(move, reason):
    game = played("0")
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == before


def test_no_move_after_a_win():
    with pytest.raises(IllegalMove, match="over"):
        played("03142").play("8")


def test_it_is_enumerable_with_one_deal():
    game = played("04")
    assert isinstance(game, Enumerable)
    [(probability, deal)] = game.deals()
    assert probability == 1
    game.reset_to(deal)
    assert game.observe(0) == "ttt X 012/345/678"
