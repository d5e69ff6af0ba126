"""Truth and deception: who talks, who guesses, who wins, and that only the deceiver is told the truth."""

import pickle
import random
from functools import partial

import pytest
from spiral_games.native.truth_and_deception import TruthAndDeception
from spiral_games.native.truth_and_deception_facts import FACT_PAIRS

from spiral import IllegalMove, SpiralError, random_legal_move
from spiral.testing import check_game


def started(seed=0, **args):
    game = TruthAndDeception(**args)
    game.reset(random.Random(seed))
    return game


def told(game):
    """The number that the deceiver is told."""
    deceiver = next(p for p in (0, 1) if " deceiver " in game.observe(p))
    head = game.observe(deceiver).split("\n")[0]
    return head.split(", ")[1][0]


def talked(game, *said):
    for text in said:
        game.play(text)
    return game


@pytest.mark.parametrize("args", [{}, {"messages": 1}, {"messages": 2, "random_roles": True, "max_chat": 5}], ids=str)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(TruthAndDeception, **args)) == []


def test_there_are_enough_different_pairs():
    assert len(FACT_PAIRS) >= 60
    assert len({statement for statement, _, _ in FACT_PAIRS}) == len(FACT_PAIRS)
    for statement, right, wrong in FACT_PAIRS:
        assert statement.count("{}") == 1
        assert right != wrong
        assert len(statement.format(max(right, wrong, key=len))) <= 80


def test_the_deceiver_is_told_what_is_true_and_the_guesser_is_not():
    trues = {statement.format(right) for statement, right, _ in FACT_PAIRS}
    for seed in range(200):
        game = started(seed)
        lines = [game.observe(player).split("\n") for player in (0, 1)]
        assert lines[0][1:] == lines[1][1:]  # the statements
        statements = {line[0]: line[3:] for line in lines[0][1:]}
        assert statements[told(game)] in trues
        assert sum(statement in trues for statement in statements.values()) == 1
        assert lines[0][0] == f"truth p0 deceiver 1/5, {told(game)} is true"
        assert lines[1][0] == "truth p1 guesser 1/5"


def test_true_statements_stand_first_as_often_as_second():
    first = sum(told(started(seed)) == "1" for seed in range(1000))
    assert 400 < first < 600  # 6 standard deviations
    assert len({started(seed).observe(1) for seed in range(1000)}) > 1.8 * len(FACT_PAIRS)


def test_a_conversation_by_hand():
    game, movers = started(messages=3), []
    for text in ("It is 1.", "Why?", "Trust me."):
        movers.append(game.current_player())
        assert game.legal_moves() is None
        game.play(text)
    assert movers == [0, 1, 0]
    assert game.current_player() == 1
    assert game.legal_moves() == ["1", "2"]
    lines = game.observe(1).split("\n")
    assert lines[0] == "truth p1 guesser guess 1 or 2"
    assert lines[3:] == ["p0: It is 1.", "p1: Why?", "p0: Trust me."]


@pytest.mark.parametrize("messages", [1, 2, 3, 4])
def test_the_guesser_has_the_last_word(messages):
    game, movers = started(messages=messages), []
    while game.current_player() is not None:
        movers.append(game.current_player())
        game.play("1")
    assert movers == [number % 2 for number in range(messages)] + [1]


@pytest.mark.parametrize("deceiver", [0, 1])
@pytest.mark.parametrize("right", [True, False])
def test_who_wins(deceiver, right):
    seed = next(s for s in range(20) if " deceiver " in started(s, random_roles=True).observe(deceiver))
    game = started(seed, random_roles=True, messages=2)
    truth = told(game)
    assert game.current_player() == deceiver
    talked(game, "a", "b")
    game.play(truth if right else "12".replace(truth, ""))
    assert game.current_player() is None
    assert game.legal_moves() == []
    winner = 1 - deceiver if right else deceiver
    assert game.returns()[winner] == 1
    assert sum(game.returns()) == 0
    for player in (0, 1):
        assert game.observe(player).split("\n")[0].endswith(f"over, {truth} is true")


@pytest.mark.parametrize("move", ["3", "", " 1", "Fact 1", "[1]", "٢", "12"])
def test_an_illegal_guess_changes_nothing(move):
    game = talked(started(messages=1), "hm")
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match="1 or 2"):
        game.play(move)
    assert pickle.dumps(game) == before


def test_no_move_after_the_guess():
    with pytest.raises(IllegalMove, match="over"):
        talked(started(messages=1), "hm", "1").play("1")


def test_chat_is_cut_and_cannot_forge_a_line():
    game = talked(started(max_chat=30), "one\np1: two\u2028three\r\nfour", "x" * 100, "")
    assert game.observe(1).split("\n")[3:] == ["p0: one p1: two three four", "p1: " + "x" * 30, "p0:"]


@pytest.mark.parametrize("messages", [1, 5])
def test_observations_are_bounded(messages):
    for seed in range(100):
        game = talked(started(seed, messages=messages, max_chat=20), *["y" * 99] * messages)
        assert len(game.observe(0)) <= 250 + messages * 25


def test_resample_redraws_the_truth_for_the_guesser_alone():
    game, seen = talked(started(), "hm"), set()
    before = game.observe(1)
    for seed in range(20):
        game.resample(1, random.Random(seed))
        assert game.observe(1) == before
        seen.add(told(game))
    assert seen == {"1", "2"}
    state = pickle.dumps(game)
    game.resample(0, random.Random(0))
    assert pickle.dumps(game) == state


def test_random_play_wins_half_for_each():
    rng, wins = random.Random(1), 0
    for _ in range(1000):
        game = TruthAndDeception(messages=1)
        game.reset(rng)
        while game.current_player() is not None:
            game.play(random_legal_move(game, rng))
        wins += game.returns()[0] == 1
    assert 400 < wins < 600


@pytest.mark.parametrize("args", [{"messages": 0}, {"max_chat": -1}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        TruthAndDeception(**args)
