"""OpenSpiel's games as games of spiral: names, loading, texts, chance, deals, copies."""

import copy
import pickle
import random
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("pyspiel")

import pyspiel
from spiral_games import openspiel
from spiral_games.openspiel import catalogue as loading
from spiral_games.openspiel import chance, excluded_names, game_names, open_spiel_game
from spiral_games.openspiel.resampling import chosen_at_once, resampler, search

from spiral import Enumerable, IllegalMove, SpiralError
from spiral.theory import GameTree


def dealt(name, deal, *moves, **args):
    game = open_spiel_game(name, **args)
    game.reset_to(deal)
    for move in moves:
        game.play(move)
    return game


def fresh(name, seed=0, **args):
    game = open_spiel_game(name, **args)
    game.reset(random.Random(seed))
    return game


def play_randomly(game, rng):
    while game.current_player() is not None:
        game.play(rng.choice(game.legal_moves()))
    return game


def test_importing_the_package_does_not_import_pyspiel():
    code = "import sys, spiral_games, spiral_games.openspiel; sys.exit('pyspiel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_open_spiel_there_are_no_names_and_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    assert game_names() == []
    with pytest.raises(SpiralError, match=r"pip install 'spiral-games\[openspiel\]'"):
        loading.reload.__wrapped__("kuhn_poker", "{}")


def test_every_name_of_open_spiel_is_either_playable_or_excluded_for_a_reason():
    names, excluded = game_names(), excluded_names()
    assert not set(names) & set(excluded)
    assert {*names, *excluded} == set(pyspiel.registered_names())
    assert {"kuhn_poker", "leduc_poker", "goofspiel", "hanabi", "chess"} <= set(names)
    assert all(len(reason) > 20 for reason in excluded.values())


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("leduc_pocker", None, "no game 'leduc_pocker' .*; near are leduc_poker"),
        ("kuhn", None, r"no game 'kuhn' .*; near are kuhn_poker"),
        ("TicTacToe", None, "near are tic_tac_toe"),
        ("zzz", None, r"no game 'zzz' \(\d+ are known\); see docs/games/openspiel.md"),
        ("mfg_garnet", None, "mean-field"),
        ("negotiation", None, "generator of its own"),
        ("liars_dice_ir", None, "take liars_dice, the game with memory"),
        ("misere", None, "needs parameters; give params with some of: game"),
        ("kuhn_poker", {"player": 3}, "no parameter 'player'; did you mean 'players'"),
        ("kuhn_poker", {"players": "three"}, "players='three'; it takes int, such as 2"),
        ("kuhn_poker", {"players": 99}, "cannot load kuhn_poker"),
    ],
)
def test_a_game_that_cannot_be_played_is_refused_in_one_sentence(name, params, says):
    with pytest.raises(SpiralError, match=says) as refusal:
        open_spiel_game(name, params)
    assert "\n" not in str(refusal.value)


def test_a_whole_number_is_taken_where_open_spiel_wants_a_float_and_games_go_inside_games():
    assert open_spiel_game("sheriff", {"item_penalty": 1}).loaded.game.get_parameters()["item_penalty"] == 1.0
    plain, misere = (
        play_randomly(game, random.Random(3))
        for game in (fresh("tic_tac_toe"), fresh("misere", params={"game": "tic_tac_toe()"}))
    )
    assert misere.returns() == [-amount for amount in plain.returns()]
    assert plain.returns() != [0, 0]


def test_what_a_game_declares():
    leduc, hanabi, catch = (open_spiel_game(name) for name in ("leduc_poker", "hanabi", "catch"))
    assert (leduc.num_players, leduc.zero_sum, leduc.perfect_information, leduc.worst_return) == (2, True, False, -13)
    assert (hanabi.num_players, hanabi.zero_sum, hanabi.worst_return) == (2, False, 0)
    assert (catch.num_players, catch.perfect_information) == (1, True)
    assert leduc.rules == "Leduc Poker for p0 and p1. Moves are: Call | Raise | Fold"
    assert open_spiel_game("pig", {"winscore": 9}).rules == "Pig (winscore=9) for p0 and p1. Moves are: roll | stop"


def test_leduc_by_hand():
    """Cards 0 and 1 are jacks, 2 and 3 queens, 4 and 5 kings; a raise is 2 in round 1, 4 in round 2."""
    game = dealt("leduc_poker", (0, 4, 1), "Raise", "Call")
    assert game.observe(0) == (
        "p0 [Observer: 0][Private: 0][Round 2][Player: 0][Pot: 6][Money: 97 97][Public: 1][Round1: 2 1][Round2: ]"
    )
    assert game.legal_moves() == ["Call", "Raise"]
    game.play("Raise")
    game.play("Call")
    assert game.returns() == [7, -7]  # a pair of jacks beats the king: ante 1 + 2 + 4
    assert game.current_player() is None
    assert game.legal_moves() == []


def test_an_illegal_move_is_refused_with_the_moves_there_are():
    game = dealt("kuhn_poker", (0, 1))
    with pytest.raises(IllegalMove, match="the moves now are Pass, Bet"):
        game.play("pass")


def test_the_short_style_says_the_same_in_fewer_letters():
    """One short text for each information state, over the whole tree, and none longer than 15 bytes."""
    full, short = (GameTree.of(open_spiel_game("leduc_poker", style=style)) for style in ("full", "short"))
    assert len(full.decisions) == len(short.decisions) == 936
    pairs = {(a.observation, b.observation) for a, b in zip(full.decisions, short.decisions, strict=True)}
    assert len(pairs) == 936
    assert full.nodes == short.nodes
    assert max(len(d.observation) for d in short.decisions) == 15
    assert dealt("leduc_poker", (2, 4, 1), "Call", "Raise", "Call", style="short").observe(0) == "p0 2 crc/1"
    with pytest.raises(SpiralError, match="no short style, only leduc_poker has"):
        open_spiel_game("kuhn_poker", style="short")


def test_simultaneous_moves_become_turns_that_hide_what_was_just_chosen():
    game = fresh("matrix_rps")
    before = game.observe(1)
    game.play("Rock")
    assert game.current_player() == 1
    assert "Rock" not in game.observe(1)
    assert game.observe(1).splitlines()[1:] == before.splitlines()[1:]
    game.play("Paper")
    assert game.returns() == [-1, 1]


def test_moves_of_one_position_are_never_the_same_text():
    for name in ("bargaining", "backgammon", "sheriff", "goofspiel", "chess"):
        moves = fresh(name).legal_moves()
        assert len(set(moves)) == len(moves)
        assert all(move == move.strip() and "\n" not in move and not move.startswith("[P") for move in moves)


def test_chance_comes_from_the_rng_of_reset_also_when_it_comes_late():
    starts = [play_randomly(fresh("pig", seed), random.Random(0)).state.history() for seed in (1, 1, 2)]
    assert starts[0] == starts[1] != starts[2]
    assert Counter(fresh("kuhn_poker", seed).observe(0) for seed in range(300)).keys() == {"p0 0", "p0 1", "p0 2"}


@pytest.mark.parametrize(
    ("name", "params", "num_deals"),
    [
        ("kuhn_poker", None, 6),  # 3 * 2
        ("kuhn_poker", {"players": 3}, 24),  # 4 * 3 * 2
        ("leduc_poker", None, 120),  # 6 * 5 * 4
        ("liars_dice", {"dice_sides": 3}, 9),
        ("goofspiel", {"num_cards": 3}, 6),  # the order of the point cards, 3 * 2 * 1
        ("tic_tac_toe", None, 1),
        ("catch", None, 5),  # the column in which the fruit starts
    ],
)
def test_deals_are_all_sequences_of_chance_with_their_probabilities(name, params, num_deals):
    deals = list(open_spiel_game(name, params).deals())
    assert len(deals) == len({deal for _, deal in deals}) == num_deals
    assert all(probability == pytest.approx(1 / num_deals) for probability, _ in deals)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("chess", "histories"),
        ("go", "histories"),
        ("hearts", "histories"),
        ("backgammon", "histories"),
    ],
)
def test_a_huge_game_is_refused_at_once_without_walking_it(name, why, monkeypatch):
    monkeypatch.setattr(chance, "_tree", lambda loaded: pytest.fail("walked"))
    game = open_spiel_game(name)
    assert not isinstance(game, Enumerable)
    with pytest.raises(SpiralError, match=why):
        chance.deals(game.loaded)


def test_chance_that_depends_on_moves_is_not_dealt_up_front():
    with pytest.raises(SpiralError, match="pig cannot be enumerated: dice are thrown between moves"):
        chance.deals(open_spiel_game("pig", {"winscore": 3, "horizon": 6, "diceoutcomes": 2}).loaded)
    with pytest.raises(SpiralError, match="its chance depends on the moves"):
        chance.deals(open_spiel_game("first_sealed_auction").loaded)


def test_a_copy_and_a_pickle_go_on_alone_and_alike():
    game = fresh("pig", 5, params={"winscore": 30})
    for _ in range(4):
        game.play("roll")
    others = [copy.deepcopy(game), pickle.loads(pickle.dumps(game))]
    before = game.observe(0)
    ends = [play_randomly(other, random.Random(7)) for other in others]
    assert game.observe(0) == before
    assert ends[0].state.history() == ends[1].state.history()
    assert play_randomly(game, random.Random(7)).state.history() == ends[0].state.history()


def test_a_game_that_can_come_back_to_a_position_numbers_its_moves():
    """So that one observation has one future: pig and chess have a limit on their length, tic-tac-toe fills up."""
    assert fresh("pig").observe(0).startswith("p0 0 Scores")
    assert fresh("tic_tac_toe").observe(0) == "p0 ...\n...\n..."


def test_a_transcript_keeps_what_the_observation_forgets():
    """Hanabi has no information state: the transcript has each own move and every line that changed."""
    game = fresh("hanabi", 3)
    first = game.observe(1)
    moves = [game.legal_moves()[-1], "(Play 0)"]
    for move in moves:
        game.play(move)
    told = game.observe(1)
    assert told.startswith(first)
    assert told.count("> (Play 0)\n") == 1
    assert "Info tokens: 8" in told
    assert "Info tokens: 7" in told
    assert f"> {moves[0]}" not in told  # the other's move shows in what changed


def test_resampling_draws_the_other_card_evenly():
    """Kuhn, player 0 holds the middle card 1: the other's is 0 or 2, whatever it is in truth."""
    state = dealt("kuhn_poker", (1, 2), "Pass", "Bet").state
    rng = random.Random(0)
    found = Counter(search(state, 0, rng).history()[1] for _ in range(2_000))
    assert found.keys() == {0, 2}
    assert abs(found[0] - 1_000) < 150  # more than six standard deviations


def test_resampling_reads_only_what_the_player_saw():
    """Two matches that look the same to player 0 give the same sequence of redrawn matches."""
    one, two = (dealt("leduc_poker", (2, other, 4), "Call", "Raise", "Call").state for other in (0, 5))
    assert one.information_state_string(0) == two.information_state_string(0)
    draws = [[search(state, 0, random.Random(seed)).history() for seed in range(50)] for state in (one, two)]
    assert draws[0] == draws[1]
    assert len({tuple(history) for history in draws[0]}) > 3


def test_a_game_too_large_to_search_is_not_redrawn():
    ways = {name: resampler(open_spiel_game(name).loaded) for name in ("leduc_poker", "goofspiel", "hearts")}
    assert ways == {"leduc_poker": search, "goofspiel": chosen_at_once, "hearts": None}
    assert not hasattr(open_spiel_game("hearts"), "resample")


def test_choices_made_at_once_are_redrawn_and_the_past_is_not():
    """Goofspiel for three: player 2 has seen the first round, not what players 0 and 1 have just bid."""
    game = fresh("goofspiel", params={"players": 3, "num_cards": 4})
    for move in ("Bid: 1", "Bid: 2", "Bid: 3", "Bid: 2", "Bid: 1"):
        game.play(move)
    truth = game.state.history()
    drawn = {tuple(chosen_at_once(game.state, 2, random.Random(seed)).history()) for seed in range(200)}
    assert {history[:-2] for history in drawn} == {tuple(truth[:-2])}
    assert {history[-2:] for history in drawn} == {(a, b) for a in (1, 2, 3) for b in (0, 2, 3)}  # bids less 1
    assert len({chosen_at_once(game.state, 1, random.Random(seed)).history()[-1] for seed in range(50)}) == 1


def test_public_names_are_what_the_package_says():
    assert all(hasattr(openspiel, name) for name in openspiel.__all__)


# Games that a run cuts


def test_a_cut_game_is_worth_what_was_paid_so_far():
    """2048 pays in play; chess at the end alone."""
    game = fresh("2048")
    for _ in range(30):
        game.play(random.Random(len(game.state.history())).choice(game.legal_moves()))
    assert game.judge() == game.returns() != [0.0]
    assert fresh("chess").judge() == [0.0, 0.0]


def test_repeated_leduc_poker_is_judged_to_a_sum_of_zero():
    """OpenSpiel pays the winner of a hand before it takes from the loser."""
    sums = set()
    for seed in range(20):
        game, rng = fresh("repeated_leduc_poker", seed), random.Random(seed)
        while game.current_player() is not None:
            sums.add(sum(game.returns()))
            assert sum(game.judge()) == 0
            game.play(rng.choice(game.legal_moves()))
    assert sums != {0.0}


@pytest.mark.parametrize("cut", ["draw", "judge"])
def test_chess_trains_on_games_that_are_cut(cut):
    """Forty games, none over after 10 moves: forty draws, and none is replaced."""
    from spiral.config.schema import RolloutConfig
    from spiral.plugins.registry import Plugins
    from spiral.policies.pool import Pool
    from spiral.selfplay.fixed_seats import FixedSeats
    from spiral.selfplay.rollouts import Rollouts

    pool = Pool(Plugins.installed())
    seats = FixedSeats("chess", [pool.bot("random")] * 2)
    config = RolloutConfig(max_turns=10, cut=cut)
    played = Rollouts({"chess": lambda: open_spiel_game("chess")}, seats, seats, pool, config)
    episodes = played.play(40, (0, "chess"))
    assert {(e.ending, e.returns, len(e.players)) for e in episodes} == {("cut", (0.0, 0.0), 10)}
    assert played.voided == []
