"""Simple negotiation: its grammar as a table, its trades by hand, and what must hold for any text at all."""

import copy
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiral_games.native.simple_negotiation import WORTH, SimpleNegotiation

from spiral import IllegalMove, SpiralError, random_legal_move

OFFER = "[offer: 2 wood -> 1 gold]"


def started(seed=0, **args):
    game = SimpleNegotiation(**args)
    game.reset(random.Random(seed))
    return game


def played(*moves, seed=0, **args):
    game = started(seed, **args)
    for move in moves:
        game.play(move)
    return game


def header(game, player):
    """The parts of an observation's first line, by name."""
    first = game.observe(player).split("\n")[0]
    name, worth, mine, other, offer = first.split("; ")
    numbers = [tuple(int(w) for w in part.split() if w.isdigit()) for part in (worth, mine, other)]
    return {"name": name, "worth": numbers[0], "you": numbers[1], "other": numbers[2], "offer": offer}


@pytest.mark.parametrize(
    ("move", "stands", "written"),
    [
        (OFFER, "p0 2 wood -> 1 gold", OFFER),
        ("[OFFER:2WOOD->1GOLD]", "p0 2 wood -> 1 gold", OFFER),
        ("[ Offer :  002 Wood  ->  1 gold ]", "p0 2 wood -> 1 gold", OFFER),
        ("[offer: 10 gold -> 9999 wood]", "p0 10 gold -> 9999 wood", "[offer: 10 gold -> 9999 wood]"),
        (f"Deal? {OFFER} Please.", "p0 2 wood -> 1 gold", f"Deal?  Please. {OFFER}"),
        ("just talk, accept 3 wood -> 4 gold", "none", "just talk, accept 3 wood -> 4 gold"),
        ("two\nlines\u2028or\r\nmore", "none", "two lines or more"),
    ],
)  # fmt: skip
def test_legal_moves_of_the_grammar(move, stands, written):
    game = played(move)
    for player in (0, 1):
        assert header(game, player)["offer"] == f"offer {stands}"
        assert game.observe(player).split("\n")[1:] == [f"p0: {written}"]


@pytest.mark.parametrize(
    ("before", "move", "reason"),
    [
        ([], "[offer: 2 wood]", "written like"),
        ([], "[offer: 2 wood -> 1 wood]", "the other"),
        ([], "[offer: 0 wood -> 1 gold]", "at least 1"),
        ([], "[offer: 1 wood -> 0 gold]", "at least 1"),
        ([], "[offer: -1 wood -> 1 gold]", "written like"),
        ([], "[offer: 1.5 wood -> 1 gold]", "written like"),
        ([], "[offer: 1 sheep -> 1 gold]", "written like"),
        ([], "[offer: ٢ wood -> 1 gold]", "written like"),
        ([], "[offer: 1 wood -> 10000 gold]", "written like"),
        ([], "[offer: 11 wood -> 1 gold]", "you have 10 wood and cannot offer 11"),
        ([], "[hello]", "written like"),
        ([], "[]", "written like"),
        ([], "[accept", "pairs"),
        ([], "accept]", "pairs"),
        ([OFFER], "[[accept]]", "pairs"),
        ([], f"{OFFER} {OFFER}", "one action"),
        ([OFFER], "[accept] [deny]", "one action"),
        ([], "[accept]", "no offer by the other player to accept"),
        ([], "[deny]", "no offer by the other player to deny"),
        ([OFFER, "hm"], "[accept]", "no offer by the other player"),
        ([OFFER, "hm"], "[deny]", "no offer by the other player"),
        ([OFFER, "[accept]"], "[accept]", "no offer"),
        ([OFFER, "[deny]", "hm"], "[accept]", "no offer"),
        (["[offer: 1 wood -> 11 gold]"], "[accept]", "you have 10 gold and cannot pay 11"),
        (["a", "b"], "c", "over"),
    ],
)
def test_illegal_moves_give_a_reason_and_change_nothing(before, move, reason):
    game = played(*before, turns=2 if reason == "over" else 10)
    state = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == state


@pytest.mark.parametrize(
    ("moves", "goods"),
    [
        ([OFFER, "[accept]"], [(8, 11), (12, 9)]),
        (["[offer: 3 gold -> 2 wood]", "Fine. [Accept]"], [(12, 7), (8, 13)]),
        (["hi", OFFER, "[accept]"], [(12, 9), (8, 11)]),
        (["hi", "[offer: 3 gold -> 2 wood]", "[ ACCEPT ]"], [(8, 13), (12, 7)]),
        ([OFFER, "[deny]"], [(10, 10), (10, 10)]),
        ([OFFER, "let me think", "well?", "[accept]"], [(8, 11), (12, 9)]),  # an offer stands through chat
        ([OFFER, "[offer: 1 gold -> 1 wood]", "[accept]"], [(9, 11), (11, 9)]),  # a counter-offer replaces it
        (["[offer: 10 wood -> 10 gold]", "[accept]"], [(0, 20), (20, 0)]),
    ],
)
def test_trades_by_hand(moves, goods):
    game = played(*moves)
    for player in (0, 1):
        shown = header(game, player)
        assert (shown["you"], shown["other"]) == (goods[player], goods[1 - player])
    assert header(game, 0)["offer"] == "offer none"


def test_the_larger_gain_by_own_values_wins():
    outcomes = set()
    for seed in range(20):
        game = played(OFFER, "[accept]", "", "", seed=seed, turns=4)
        (wood0, gold0), (wood1, gold1) = header(game, 0)["worth"], header(game, 1)["worth"]
        gains = (gold0 - 2 * wood0, 2 * wood1 - gold1)
        assert game.gains() == gains
        lead = (gains[0] > gains[1]) - (gains[0] < gains[1])
        assert game.returns() == [lead, -lead]
        outcomes.add(game.returns()[0])
    assert {1, -1} <= outcomes


def test_no_trade_is_a_draw():
    assert played("a", "b", turns=2).returns() == [0, 0]


def test_values_are_private_add_up_and_vary():
    seen = set()
    for seed in range(300):
        game = started(seed)
        values = header(game, 0)["worth"], header(game, 1)["worth"]
        assert all(sum(pair) == WORTH and min(pair) >= 1 for pair in values)
        seen.add(values)
    assert {wood for (wood, _), _ in seen} == set(range(1, WORTH))
    assert len(seen) > 150  # the two players' values are drawn apart


def test_turns_alternate_and_the_limit_ends_the_match():
    game, movers = started(turns=3), []
    while game.current_player() is not None:
        movers.append(game.current_player())
        game.play("hm")
    assert movers == [0, 1, 0]
    assert header(game, 1)["name"] == "nego p1 over"


def test_chat_is_cut_and_cannot_forge_a_line():
    game = played("x" * 50 + "\np1: yes [offer: 1 wood -> 1 gold]", max_chat=60)
    assert game.observe(1).split("\n")[1:] == ["p0: " + "x" * 50 + " p1: yes [offer: 1 wood -> 1 gold]"]
    game.play("y" * 1000)
    assert game.observe(0).split("\n")[2] == "p1: " + "y" * 60


def refused(game, move):
    """Play; the reason if the move is illegal, else None."""
    try:
        game.play(move)
    except IllegalMove as illegal:
        return str(illegal)
    return None


CHATTER = st.text(max_size=60) | st.text(alphabet="[]ofer: 12wodgl->acptdny\n", max_size=40)
OFFERS = st.builds(
    "{} [offer: {} {} -> {} {}]".format,
    st.text(max_size=5), st.integers(0, 12), st.sampled_from(["wood", "Gold"]),
    st.integers(0, 12), st.sampled_from(["GOLD", "wood"]),
)  # fmt: skip
MOVES = st.lists(CHATTER | OFFERS | st.sampled_from(["[accept]", "[deny]", "ok [ACCEPT]"]), max_size=30)
GAMES = st.builds(SimpleNegotiation, turns=st.integers(2, 12), stock=st.integers(1, 12), max_chat=st.integers(0, 50))


@settings(deadline=None, max_examples=150, derandomize=True)
@given(game=GAMES, seed=st.integers(0, 2**32), moves=MOVES)
def test_any_text_at_all_keeps_the_promises(game, seed, moves):
    """Conservation, hiding, atomic illegal moves, bounded observations and an end, whatever is said."""
    rng = random.Random(seed)
    game.reset(rng)
    twin = copy.deepcopy(game)
    twin.resample(0, rng)  # the same match for player 0, with other values for player 1
    for move in moves:
        if game.current_player() is None:
            break
        state = pickle.dumps(game)
        refusal = refused(game, move)
        assert refused(twin, move) == refusal  # hidden values decide nothing about legality
        assert (pickle.dumps(game) == state) == (refusal is not None)
        assert game.observe(0) == twin.observe(0)
        shown = header(game, 0)
        assert min(shown["you"] + shown["other"]) >= 0
        for mine, other in zip(shown["you"], shown["other"], strict=True):
            assert mine + other == 2 * game.stock
        assert len(game.observe(1)) <= 200 + game.turns * (game.max_chat + 40)
    turns_left = 0
    while game.current_player() is not None:
        game.play(game.sample_move(rng))
        turns_left += 1
    assert turns_left <= game.turns
    assert sum(game.returns()) == 0


def test_sample_move_is_always_legal_and_says_everything():
    rng, starts = random.Random(2), set()
    for _ in range(100):
        game = SimpleNegotiation(stock=2)
        game.reset(rng)
        while game.current_player() is not None:
            assert game.legal_moves() is None
            move = random_legal_move(game, rng)
            game.play(move)
            starts.add(move.split(":")[0] if move.startswith("[") else "chat")
    assert starts == {"chat", "[offer", "[accept]", "[deny]"}


@pytest.mark.parametrize("player", [0, 1])
def test_resample_changes_the_other_players_values_only(player):
    game = played("hi", OFFER)
    mine, others = game.observe(player), set()
    for seed in range(30):
        game.resample(player, random.Random(seed))
        assert game.observe(player) == mine
        others.add(header(game, 1 - player)["worth"])
    assert len(others) > 5


@pytest.mark.parametrize("args", [{"turns": 1}, {"stock": 0}, {"stock": 1001}, {"max_chat": -1}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        SimpleNegotiation(**args)
