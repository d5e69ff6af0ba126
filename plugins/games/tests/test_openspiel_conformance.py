"""The conformance kit over OpenSpiel: a representative dozen by default, every listed game with `-m slow`."""

import pytest

pytest.importorskip("pyspiel")

from spiral_games.openspiel import game_names, open_spiel_game

from spiral.testing import check_game

DOZEN = [
    ("kuhn_poker", {}),
    ("kuhn_poker", {"players": 3}),
    ("leduc_poker", {}),
    ("liars_dice", {"dice_sides": 3}),
    ("tic_tac_toe", {}),
    ("connect_four", {}),
    ("breakthrough", {"rows": 4, "columns": 3}),
    ("pig", {"winscore": 20}),  # dice between moves
    ("goofspiel", {"num_cards": 4}),  # bids at once, taken in turn
    ("backgammon", {"hyper_backgammon": True}),  # legal moves depend on dice
    ("hanabi", {"colors": 2, "ranks": 2, "hand_size": 2}),  # no information state: a transcript
    ("catch", {}),  # one player
    ("blackjack", {}),  # one player and hidden chance
    ("phantom_ttt", {}),  # hidden moves, no chance
    ("sheriff", {}),  # not zero-sum
]


@pytest.mark.parametrize(("name", "params"), DOZEN)
def test_a_representative_dozen_keeps_every_promise_of_a_game(name, params):
    assert check_game(lambda: open_spiel_game(name, params), num_matches=8) == []


def test_the_short_style_keeps_every_promise_of_a_game():
    assert check_game(lambda: open_spiel_game("leduc_poker", style="short")) == []


FASTER = {"bridge": {"use_double_dummy_result": False}}  # by default it solves each deal, half a second


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", game_names())
def test_every_listed_game_keeps_every_promise_of_a_game(name):
    """As it is without parameters; a game has fifteen minutes, most take seconds."""
    assert check_game(lambda: open_spiel_game(name, FASTER.get(name)), num_matches=3) == []
