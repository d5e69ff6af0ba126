"""Negotiation over five resources: its grammar as a table, its trades by hand, and what must hold for any text."""

import copy
import pickle
import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiral_games.native.resource_negotiation import RESOURCES, ResourceNegotiation

from spiral import IllegalMove, SpiralError, random_legal_move
from spiral.testing import check_game

OFFER = "[2 wood -> 1 ore]"


def started(seed=0, **args):
    game = ResourceNegotiation(**args)
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
    numbers = [[int(word) for word in part.split()[1:]] for part in (worth, mine, other)]
    return {"name": name, "worth": numbers[0], "you": numbers[1], "other": numbers[2], "offer": offer}


@pytest.mark.parametrize("args", [{}, {"turns": 3, "max_chat": 0}], ids=str)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(ResourceNegotiation, **args), num_matches=20) == []


@pytest.mark.parametrize(
    ("move", "stands", "written"),
    [
        (OFFER, "p0 2 wood -> 1 ore", OFFER),
        ("[2wo->1o]", "p0 2 wood -> 1 ore", OFFER),
        ("[offer: 2 WOOD -> 1 Ore]", "p0 2 wood -> 1 ore", OFFER),
        ("[ Offer : 002 Woo  ->  1 or ]", "p0 2 wood -> 1 ore", OFFER),
        ("[1s+2wh->3b]", "p0 2 wheat + 1 sheep -> 3 brick", "[2 wheat + 1 sheep -> 3 brick]"),
        ("[1s2wh -> 9999b 1o]", "p0 2 wheat + 1 sheep -> 9999 brick + 1 ore",
         "[2 wheat + 1 sheep -> 9999 brick + 1 ore]"),
        (f"Deal? {OFFER} Please.", "p0 2 wood -> 1 ore", f"Deal?  Please. {OFFER}"),
        ("just talk, accept 3 wood -> 4 ore", "none", "just talk, accept 3 wood -> 4 ore"),
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
        ([], "[2 wood]", "written like"),
        ([], "[2 wood ->]", "written like"),
        ([], "[-> 2 wood]", "written like"),
        ([], "[2 wood -> 1 ore -> 1 ore]", "written like"),
        ([], "[wood -> ore]", "written like"),
        ([], "[-1 wood -> 1 ore]", "written like"),
        ([], "[1.5 wood -> 1 ore]", "written like"),
        ([], "[٢ wood -> 1 ore]", "written like"),
        ([], "[1 wood -> 10000 ore]", "written like"),
        ([], "[2 wood ++ 1 sheep -> 1 ore]", "written like"),
        ([], "[1 gold -> 1 ore]", "gold is not one of wheat, wood"),
        ([], "[1 w -> 1 ore]", "w is not one of"),
        ([], "[1 woods -> 1 ore]", "woods is not one of"),
        ([], "[0 wood -> 1 ore]", "at least 1"),
        ([], "[1 wood -> 0 ore]", "at least 1"),
        ([], "[1 wood + 1 wo -> 1 ore]", "names wood once"),
        ([], "[1 wood -> 1 wood]", "other resources"),
        ([], "[1 wood + 1 ore -> 1 ore]", "other resources"),
        ([], "[26 wood -> 1 ore]", "cannot offer 26 wood"),
        ([], "[1 wood + 26 ore -> 1 sheep]", "cannot offer 1 wood \\+ 26 ore"),
        ([], "[hello]", "written like"),
        ([], "[]", "written like"),
        ([], "[accept", "pairs"),
        ([OFFER], "[[accept]]", "pairs"),
        ([OFFER], "[accept] [deny]", "one action"),
        ([], "[accept]", "no offer by the other player to accept"),
        ([OFFER, "hm"], "[deny]", "no offer by the other player to deny"),
        ([OFFER, "[deny]", "hm"], "[accept]", "no offer"),
        (["[1 wood -> 99 ore]"], "[accept]", "cannot pay 99 ore"),
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
    ("moves", "flow"),
    [
        ([OFFER, "[accept]"], [0, -2, 0, 0, 1]),
        (["hi", OFFER, "[ Accept ]"], [0, 2, 0, 0, -1]),
        (["[1wh+2s->1b]", "Fine. [accept]"], [-1, 0, -2, 1, 0]),
        ([OFFER, "[deny]"], [0, 0, 0, 0, 0]),
        ([OFFER, "let me think", "well?", "[accept]"], [0, -2, 0, 0, 1]),  # an offer stands through chat
        ([OFFER, "[1 sheep -> 1 wood]", "[accept]"], [0, -1, 1, 0, 0]),  # a counter-offer replaces it
    ],
)
def test_trades_by_hand(moves, flow):
    before, game = started(), played(*moves)
    for player, sign in ((0, 1), (1, -1)):
        start, shown = header(before, player)["you"], header(game, player)
        assert shown["you"] == [had + sign * change for had, change in zip(start, flow, strict=True)]
        assert header(game, 1 - player)["other"] == shown["you"]
    assert header(game, 0)["offer"] == "offer none"


def test_the_larger_gain_by_own_values_wins():
    outcomes = set()
    for seed in range(30):
        game = played("[2 sheep -> 1 brick]", "[accept]", seed=seed, turns=2)
        (_, _, sheep0, brick0, _), (_, _, sheep1, brick1, _) = (header(game, p)["worth"] for p in (0, 1))
        gains = (brick0 - 2 * sheep0, 2 * sheep1 - brick1)
        assert game.gains() == gains
        lead = (gains[0] > gains[1]) - (gains[0] < gains[1])
        assert game.returns() == [lead, -lead]
        outcomes.add(lead)
    assert {1, -1} <= outcomes


def test_no_trade_is_a_draw_whatever_the_goods_are_worth():
    assert {tuple(played("a", "b", turns=2, seed=seed).returns()) for seed in range(10)} == {(0, 0)}


def test_values_and_stocks_are_drawn_within_their_bounds():
    values, stocks = [set() for _ in RESOURCES], set()
    for seed in range(400):
        game = started(seed)
        for player in (0, 1):
            shown = header(game, player)
            stocks |= set(shown["you"])
            for drawn, value in zip(values, shown["worth"], strict=True):
                drawn.add(value)
    assert stocks == set(range(5, 26))
    bounds = [(5, 6), (8, 12), (12, 18), (20, 30), (32, 40)]
    assert values == [set(range(low, high + 1)) for low, high in bounds]


CHATTER = st.text(max_size=60) | st.text(alphabet="[]0123whosbre->+ acptdny\n", max_size=40)
OFFERS = st.builds(
    "{} [{}{} -> {}{}]".format,
    st.text(max_size=5), st.integers(0, 30), st.sampled_from(["wo", "Wheat", "s", "2 brick + 1 ore"]),
    st.integers(0, 30), st.sampled_from(["ore", "b", "sheep 1 wood"]),
)  # fmt: skip
MOVES = st.lists(CHATTER | OFFERS | st.sampled_from(["[accept]", "[deny]", "ok [ACCEPT]"]), max_size=30)
GAMES = st.builds(ResourceNegotiation, turns=st.integers(2, 12), max_chat=st.integers(0, 50))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(game=GAMES, seed=st.integers(0, 2**32), moves=MOVES)
def test_any_text_at_all_keeps_the_promises(game, seed, moves):
    """Conservation, hiding, atomic illegal moves, bounded observations and an end, whatever is said."""
    rng = random.Random(seed)
    game.reset(rng)
    total = [mine + other for mine, other in zip(header(game, 0)["you"], header(game, 0)["other"], strict=True)]
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
        assert [mine + other for mine, other in zip(shown["you"], shown["other"], strict=True)] == total
        assert len(game.observe(1)) <= 250 + game.turns * (game.max_chat + 80)
    while game.current_player() is not None:
        game.play(game.sample_move(rng))
    assert sum(game.returns()) == 0


def refused(game, move):
    """Play; the reason if the move is illegal, else None."""
    try:
        game.play(move)
    except IllegalMove as illegal:
        return str(illegal)
    return None


def test_sample_move_is_always_legal_and_says_everything():
    rng, starts = random.Random(2), set()
    for _ in range(100):
        game = ResourceNegotiation()
        game.reset(rng)
        while game.current_player() is not None:
            assert game.legal_moves() is None
            move = random_legal_move(game, rng)
            game.play(move)
            starts.add("offer" if "->" in move else move if move.startswith("[") else "chat")
    assert starts == {"chat", "offer", "[accept]", "[deny]"}


@pytest.mark.parametrize("player", [0, 1])
def test_resample_changes_the_other_players_values_only(player):
    game = played("hi", OFFER)
    mine, others = game.observe(player), set()
    goods = header(game, 1 - player)["you"]
    for seed in range(30):
        game.resample(player, random.Random(seed))
        assert game.observe(player) == mine
        others.add(tuple(header(game, 1 - player)["worth"]))
        assert header(game, 1 - player)["you"] == goods
    assert len(others) > 20


def test_turns_alternate_and_the_limit_ends_the_match():
    game, movers = started(turns=3), []
    while game.current_player() is not None:
        movers.append(game.current_player())
        game.play("hm")
    assert movers == [0, 1, 0]
    assert header(game, 1)["name"] == "trade p1 over"


@pytest.mark.parametrize("args", [{"turns": 1}, {"max_chat": -1}])
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        ResourceNegotiation(**args)
