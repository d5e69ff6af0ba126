"""Connect four against published counts of positions and games, against OpenSpiel's game, and by hand."""

import copy
import pickle
import random
from functools import partial

import pytest
from spiral_games.native.connect_four import ConnectFour

from spiral import Enumerable, IllegalMove, SpiralError
from spiral.testing import check_game
from spiral.theory import GameTree, nash_conv, uniform


def played(moves="", **args):
    game = ConnectFour(**args)
    game.reset(random.Random(0))
    for move in moves:
        game.play(move)
    return game


@pytest.mark.parametrize("args", [{}, {"rows": 3, "cols": 3, "connect": 3}, {"rows": 1, "cols": 2, "connect": 2}])
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(ConnectFour, **args), num_matches=20) == []


def positions(game, plies):
    """How many positions can stand after each number of moves."""
    level, counts = [game], [1]
    for _ in range(plies):
        after = {}
        for position in level:
            for move in position.legal_moves():
                child = copy.copy(position)  # the state is made of immutable values
                child.play(move)
                after[child.observe(0)] = child
        level = list(after.values())
        counts.append(len(level))
    return counts


def test_positions_of_the_usual_board():
    """OEIS A212693: legal positions of 7 x 6 after n plies."""
    assert positions(played(), 6) == [1, 7, 49, 238, 1120, 4263, 16422]


@pytest.mark.slow
def test_positions_of_the_board_of_four_by_four():
    """161,029 in all: J. Tromp, John's Connect Four Playground."""
    assert sum(positions(played(rows=4, cols=4), 16)) == 161029


def games(game, known):
    """How many ways there are to play on to the end."""
    if game.current_player() is None:
        return 1
    key = game.observe(0)
    if key not in known:
        total = 0
        for move in game.legal_moves():
            child = copy.copy(game)
            child.play(move)
            total += games(child, known)
        known[key] = total
    return known[key]


def test_number_of_different_games():
    """OEIS A342329: 356,232 games of connect four on 4 columns and 3 rows."""
    assert games(played(rows=3, cols=4), {}) == 356232


def solve(game, known):
    """Player 0's return with best play by both."""
    player = game.current_player()
    if player is None:
        return game.returns()[0]
    key = game.observe(player)
    if key not in known:
        worths = []
        for move in game.legal_moves():
            child = copy.copy(game)
            child.play(move)
            worths.append(solve(child, known))
        known[key] = max(worths) if player == 0 else min(worths)
    return known[key]


def solve_theirs(state, known):
    """The same for a state of OpenSpiel."""
    if state.is_terminal():
        return state.returns()[0]
    key = str(state)
    if key not in known:
        worths = [solve_theirs(state.child(action), known) for action in state.legal_actions()]
        known[key] = max(worths) if state.current_player() == 0 else min(worths)
    return known[key]


@pytest.mark.parametrize(
    ("rows", "cols", "connect", "value"), [(2, 2, 2, 1), (3, 3, 3, 0), (3, 4, 3, 1), (4, 3, 3, 0), (3, 4, 4, 0)]
)
def test_values_of_small_boards_equal_openspiel(rows, cols, connect, value):
    pyspiel = pytest.importorskip("pyspiel")
    theirs = pyspiel.load_game(f"connect_four(rows={rows},columns={cols},x_in_row={connect})")
    ours, known = {}, {}
    assert solve(played(rows=rows, cols=cols, connect=connect), ours) == value
    assert solve_theirs(theirs.new_initial_state(), known) == value
    assert len(ours) == len(known)


@pytest.mark.slow
def test_the_board_of_four_by_four_is_a_draw():
    """J. Tromp's table of small boards: neither side can force four in a row there."""
    assert solve(played(rows=4, cols=4), {}) == 0


@pytest.mark.parametrize(("rows", "cols", "connect"), [(6, 7, 4), (4, 5, 3), (5, 4, 4)])
def test_random_matches_equal_openspiel(rows, cols, connect):
    pyspiel = pytest.importorskip("pyspiel")
    theirs = pyspiel.load_game(f"connect_four(rows={rows},columns={cols},x_in_row={connect})")
    rng = random.Random(0)
    for _ in range(60):
        game, state = played(rows=rows, cols=cols, connect=connect), theirs.new_initial_state()
        while not state.is_terminal():
            assert game.current_player() == state.current_player()
            assert [int(move) for move in game.legal_moves()] == state.legal_actions()
            col = rng.choice(state.legal_actions())
            game.play(str(col))
            state.apply_action(col)
        assert game.current_player() is None
        assert game.returns() == state.returns()


def test_it_folds_into_a_graph_of_known_size():
    tree = GameTree.of(ConnectFour(3, 3, 3))
    assert len(tree.decisions) == 505
    assert nash_conv(tree, uniform(tree)).nash_conv == pytest.approx(1.7901234567901234)
    assert isinstance(ConnectFour(), Enumerable)


@pytest.mark.parametrize(
    ("moves", "returns"),
    [
        ("0102030", [1, -1]),  # a column
        ("102030", None),
        ("1020350", None),
        ("10203050", [-1, 1]),  # a column of the second player
        ("0011223", [1, -1]),  # a row
        ("01122323363", [1, -1]),  # a rising diagonal
        ("65544343303", [1, -1]),  # a falling diagonal
        ("0112232336", None),  # the same without its last disc
        ("00112", None),
    ],
)
def test_lines_by_hand(moves, returns):
    game = played(moves)
    assert (game.current_player() is None) == (game.legal_moves() == []) == (returns is not None)
    assert game.returns() == (returns or [0, 0])


def test_the_observation_shows_marks_and_where_a_disc_would_land():
    game = played("3323")
    assert game.observe(0) == "c4 X ......./......./...3.../...O.../..2O.../01XX456"
    assert game.observe(1) == "c4 O ......./......./...3.../...O.../..2O.../01XX456"


def test_a_full_board_is_a_draw():
    game = played("001221", rows=2, cols=3, connect=3)
    assert game.observe(0) == "c4 X OOX/XXO"
    assert game.current_player() is None
    assert game.returns() == [0, 0]


@pytest.mark.parametrize(
    ("moves", "move", "reason"),
    [
        ("", "7", "from 0 to 6"), ("", "-1", "from 0 to 6"), ("", "", "from 0 to 6"), ("", "33", "from 0 to 6"),
        ("", "²", "from 0 to 6"), ("333333", "3", "column 3 is full"), ("0102030", "1", "over"),
    ],
)  # fmt: skip
def test_an_illegal_move_changes_nothing(moves, move, reason):
    game = played(moves)
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == before


@pytest.mark.parametrize("args", [{"rows": 0}, {"rows": 11}, {"cols": 11}, {"connect": 1}, {"connect": 8}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        ConnectFour(**args)
