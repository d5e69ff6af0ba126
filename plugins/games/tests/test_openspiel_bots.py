"""OpenSpiel's bots: strength, determinism, and that none of them uses hidden information."""

import copy
import random
from collections import Counter
from functools import partial

import pytest

pytest.importorskip("pyspiel")

from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.openspiel import OpenSpielCFR, OpenSpielMCTS, OpenSpielRandom, open_spiel_game

from spiral import SpiralError
from spiral.testing import check_bot

SMALL = {
    "kuhn_poker": partial(open_spiel_game, "kuhn_poker"),
    "liars_dice": partial(open_spiel_game, "liars_dice", {"dice_sides": 3}),
    "tic_tac_toe": partial(open_spiel_game, "tic_tac_toe"),
    "goofspiel": partial(open_spiel_game, "goofspiel", {"num_cards": 3}),
    "native": KuhnPoker,
}
BOTS = {"random": OpenSpielRandom, "cfr": partial(OpenSpielCFR, 50), "mcts": partial(OpenSpielMCTS, 10)}


def play(game, bots, seed):
    game.reset(random.Random(seed))
    rng = random.Random(seed)
    while (player := game.current_player()) is not None:
        game.play(bots[player].choose(game, player, rng))
    return game.returns()


@pytest.mark.parametrize("name", BOTS)
def test_bots_keep_the_promises_of_bots(name):
    """Legal moves, the same move for the same rng, no peeking, the game left alone; the native game is refused."""
    assert check_bot(BOTS[name], SMALL) == []


@pytest.mark.parametrize("name", BOTS)
def test_other_games_are_refused_in_one_sentence(name):
    game = KuhnPoker()
    game.reset(random.Random(0))
    with pytest.raises(SpiralError, match=r"plays games named openspiel/\.\.\. and was asked to play KuhnPoker"):
        BOTS[name]().choose(game, 0, random.Random(0))


def test_random_play_is_uniform():
    game = open_spiel_game("leduc_poker")
    game.reset_to((0, 1, 2))
    game.play("Raise")
    rng = random.Random(0)
    counts = Counter(OpenSpielRandom().choose(game, 1, rng) for _ in range(3_000))
    assert counts.keys() == {"Fold", "Call", "Raise"}
    assert all(abs(count - 1_000) < 160 for count in counts.values())  # six standard deviations


def test_mcts_beats_random_at_tic_tac_toe_as_either_player():
    search, chance = OpenSpielMCTS(simulations=50), OpenSpielRandom()
    game = open_spiel_game("tic_tac_toe")
    first = [play(game, (search, chance), seed)[0] for seed in range(20)]
    second = [play(game, (chance, search), seed)[1] for seed in range(20)]
    assert sum(first) >= 14
    assert sum(second) >= 10
    assert (first + second).count(-1) <= 2


def test_mcts_takes_the_win_and_stops_the_loss():
    game = open_spiel_game("tic_tac_toe")
    game.reset(random.Random(0))
    for move in ("x(0,0)", "o(1,0)", "x(0,1)", "o(1,1)"):
        game.play(move)
    assert {OpenSpielMCTS(200).choose(game, 0, random.Random(seed)) for seed in range(10)} == {"x(0,2)"}
    game.play("x(2,2)")
    assert {OpenSpielMCTS(200).choose(game, 1, random.Random(seed)) for seed in range(10)} == {"o(1,2)"}


def test_mcts_plays_games_with_dice_and_games_of_one():
    assert len(play(open_spiel_game("pig", {"winscore": 10}), [OpenSpielMCTS(20)] * 2, 0)) == 2
    assert play(open_spiel_game("catch", {"rows": 4, "columns": 3}), [OpenSpielMCTS(100)], 0) == [1.0]


def test_ismcts_never_folds_the_best_and_never_calls_with_the_worst_card_of_kuhn_poker():
    """Facing a bet: the king always wins a call, the jack always loses one."""
    moves = {}
    for card in (0, 2):
        game = open_spiel_game("kuhn_poker")
        game.reset_to(((card + 1) % 3, card))
        game.play("Bet")
        moves[card] = {OpenSpielMCTS(100).choose(game, 1, random.Random(seed)) for seed in range(20)}
    assert moves == {0: {"Pass"}, 2: {"Bet"}}


@pytest.mark.parametrize("bot", [OpenSpielMCTS(20), OpenSpielCFR(2)], ids=["mcts", "cfr"])
def test_hidden_cards_do_not_change_what_a_bot_plays(bot):
    """Leduc, every card the other may hold: the same moves for the same generator, thirty times."""
    played = []
    for other in (0, 1, 3, 5):
        game = open_spiel_game("leduc_poker")
        game.reset_to((2, other, 4))
        for move in ("Call", "Raise", "Call"):
            game.play(move)
        played.append([bot.choose(game, 0, random.Random(seed)) for seed in range(30)])
    assert all(moves == played[0] for moves in played)
    assert len(set(played[0])) > 1


def test_a_bot_that_searches_does_not_foresee_the_dice():
    """Two copies of one match whose dice to come differ: the same choice."""
    game = open_spiel_game("pig", {"winscore": 20})
    game.reset(random.Random(1))
    game.play("roll")
    other = copy.deepcopy(game)
    other._chance.seed(99)
    moves = [
        [OpenSpielMCTS(30).choose(g, g.current_player(), random.Random(s)) for s in range(20)] for g in (game, other)
    ]
    assert moves[0] == moves[1]


@pytest.mark.parametrize(
    ("bot", "game", "says"),
    [
        (OpenSpielCFR(), "tic_tac_toe", "CFR would visit about .* of openspiel/tic_tac_toe in 200 iterations"),
        (OpenSpielCFR(), "hanabi", "no information states"),
        (OpenSpielMCTS(), "hanabi", "cannot be redrawn"),
        (OpenSpielMCTS(), "kriegspiel", "cannot be redrawn"),
        (OpenSpielMCTS(), "pathfinding", "rewards during the match"),
    ],
)
def test_a_game_beyond_a_bot_is_refused_in_one_sentence(bot, game, says):
    match = open_spiel_game(game)
    match.reset(random.Random(0))
    with pytest.raises(SpiralError, match=says):
        bot.choose(match, match.current_player(), random.Random(0))


@pytest.mark.parametrize("make", [lambda: OpenSpielCFR(0), lambda: OpenSpielMCTS(0), lambda: OpenSpielMCTS(10, 0.0)])
def test_arguments_without_sense_are_refused(make):
    with pytest.raises(SpiralError, match="must be"):
        make()
