"""Liar's dice: bids and challenges by hand, deals against all rolls, and OpenSpiel's game on random policies."""

import itertools
import pickle
import random
from collections import Counter
from functools import partial

import pytest
from spiral_games.native.liars_dice import LiarsDice

from spiral import Enumerable, IllegalMove, SpiralError
from spiral.testing import check_game
from spiral.theory import GameTree, nash_conv, uniform


def dealt(deal, moves="", **args):
    game = LiarsDice(**{"dice": len(deal[0]), "players": len(deal), **args})
    game.reset_to(deal)
    for move in moves.split():
        game.play(move)
    return game


@pytest.mark.parametrize(
    "args", [{}, {"players": 3}, {"dice": 5, "players": 6}, {"dice": 2, "faces": 2, "wild": 1}], ids=str
)
def test_the_kit_finds_no_fault(args):
    assert check_game(partial(LiarsDice, **args), num_matches=20) == []


# Deal, moves and who loses, by hand.
CHALLENGES = [
    ("3 5", "1x3 liar", 1),  # true: the doubter loses
    ("3 5", "1x5 liar", 1),  # true of the doubter's own die
    ("3 5", "1x4 liar", 0),
    ("3 3", "2x3 liar", 1),
    ("3 5", "1x3 2x5 liar", 1),  # player 1 bid, player 0 doubts
    ("3 5", "1x3 1x5 liar", 0),
    ("36 11", "2x1 3x1 liar", 1),
    ("36 11", "1x6 2x1 liar", 0),
    ("1 2 3", "1x1 1x2 1x3 liar", 0),  # player 2 bid, player 0 doubts
    ("1 2 3", "1x1 1x2 2x2 liar", 2),
    ("1 2 3", "1x4 liar", 0),
    ("1 2 3", "1x2 2x2 liar", 1),
]


@pytest.mark.parametrize(("deal", "moves", "loser"), CHALLENGES)
def test_challenges_by_hand(deal, moves, loser):
    game = dealt(tuple(deal.split()), moves)
    share = 1 / (game.num_players - 1)
    assert game.current_player() is None
    assert game.legal_moves() == []
    assert game.loser == loser
    assert game.returns() == [-1 if player == loser else share for player in range(game.num_players)]


@pytest.mark.parametrize(("wild", "loser"), [(0, 0), (1, 1), (3, 0), (6, 0)])
def test_wild_dice_count_as_every_face(wild, loser):
    """Two fives are bid; a 1 and a 5 lie there."""
    assert dealt(("5", "1"), "2x5 liar", wild=wild).loser == loser


def test_a_bid_on_the_wild_face_counts_each_die_once():
    assert dealt(("1", "1"), "2x1 liar", wild=1).loser == 1
    assert dealt(("1", "2"), "2x1 liar", wild=1).loser == 0


def test_legal_moves_are_the_higher_bids_and_liar():
    assert dealt(("3", "1"), faces=3).legal_moves() == ["1x1", "1x2", "1x3", "2x1", "2x2", "2x3"]
    assert dealt(("3", "1"), "1x2", faces=3).legal_moves() == ["1x3", "2x1", "2x2", "2x3", "liar"]
    assert dealt(("3", "1"), "1x3 2x3", faces=3).legal_moves() == ["liar"]
    assert len(dealt(("11111", "22222")).legal_moves()) == 60


@pytest.mark.parametrize(
    ("moves", "move", "reason"),
    [
        ("", "liar", "no bid"), ("", "3x1", "only 2 dice"), ("", "1x7", "from 1 to 6"), ("", "0x1", "such as"),
        ("", "1x0", "such as"), ("", "1 x 2", "such as"), ("", "1x2 ", "such as"), ("", "١x2", "such as"),
        ("", "", "such as"), ("", "Liar", "such as"), ("1x4", "1x4", "higher than 1x4"), ("1x4", "1x3", "higher"),
        ("2x1", "1x6", "higher"), ("", "99x1", "only 2"), ("", "100x1", "such as"), ("1x1 liar", "1x2", "over"),
    ],
)  # fmt: skip
def test_an_illegal_move_gives_a_reason_and_changes_nothing(moves, move, reason):
    game = dealt(("3", "5"), moves)
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == before


def test_observation():
    game = dealt(("36", "11"), "1x2 1x5")
    assert game.observe(0) == "liar p0 36 1x2 1x5"
    assert game.observe(1) == "liar p1 11 1x2 1x5"
    game.play("liar")
    assert game.observe(0) == "liar p0 36/11 1x2 1x5 liar"
    assert game.observe(1) == "liar p1 36/11 1x2 1x5 liar"


def test_players_move_in_turn():
    game, movers = dealt(("1", "2", "3")), []
    for bid in ("1x1", "1x2", "1x3", "2x1", "2x2"):
        movers.append(game.current_player())
        game.play(bid)
    assert movers == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(("dice", "players", "faces"), [(1, 2, 6), (2, 2, 3), (1, 3, 3), (3, 2, 2)])
def test_deals_are_all_rolls_counted(dice, players, faces):
    game = LiarsDice(dice, players, faces)
    rolls = Counter()
    for rolled in itertools.product("123456"[:faces], repeat=dice * players):
        hands = zip(*[iter(rolled)] * dice, strict=True)
        rolls[tuple("".join(sorted(hand)) for hand in hands)] += 1
    total = faces ** (dice * players)
    assert {deal: round(p * total) for p, deal in game.deals()} == rolls
    assert sum(p for p, _ in game.deals()) == pytest.approx(1)
    assert isinstance(game, Enumerable)


@pytest.mark.parametrize("player", [0, 1, 2])
def test_resample_redraws_the_others_dice_until_they_are_shown(player):
    game, others = dealt(("1", "2", "3"), "1x1"), set()
    mine = game.observe(player)
    for seed in range(60):
        game.resample(player, random.Random(seed))
        assert game.observe(player) == mine
        others.add(game.observe((player + 1) % 3))
    assert len(others) == 6
    game = dealt(("1", "2", "3"), "1x1 liar")
    before = pickle.dumps(game)
    game.resample(player, random.Random(0))
    assert pickle.dumps(game) == before


@pytest.mark.parametrize(
    ("args", "states", "uniform_nash_conv"),
    [
        ({"faces": 3}, 192, 1.4364197530864198),
        ({"faces": 4}, 1024, 1.6088541666666663),
        ({"players": 3, "faces": 2}, 128, 0.9920138888888889),
    ],
    ids=str,
)
def test_sizes(args, states, uniform_nash_conv):
    """A hand, and any set of bids: with one die each faces * 2 ** (players * faces) states, the full table left out."""
    tree = GameTree.of(LiarsDice(**args))
    faces, players = args["faces"], args.get("players", 2)
    assert len(tree.decisions) == len(tree.states) == states == faces * 2 ** (players * faces)
    assert nash_conv(tree, uniform(tree)).nash_conv == pytest.approx(uniform_nash_conv)


def same_place(state, args):
    """Our game where OpenSpiel's stands."""
    dice = [str(item.action + 1) for item in state.full_history() if item.player < 0]
    hands = tuple("".join(sorted(hand)) for hand in zip(*[iter(dice)] * args["dice"], strict=True))
    ours = dealt(hands, **args)
    for item in state.full_history():
        if item.player >= 0:
            quantity, face = divmod(item.action, args["faces"])
            ours.play("liar" if quantity == 2 * args["dice"] else f"{quantity + 1}x{face + 1}")
    return ours


@pytest.mark.parametrize(
    "args",
    [{"dice": 1, "faces": 2}, {"dice": 1, "faces": 3}, {"dice": 1, "faces": 4}, {"dice": 2, "faces": 2}],
    ids=str,
)
def test_nash_conv_equals_openspiel_on_random_tables(args):
    """OpenSpiel's highest face is wild, so `wild` is `faces`."""
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability

    args = {**args, "wild": args["faces"]}
    tree = GameTree.of(LiarsDice(**args))
    game = pyspiel.load_game(f"liars_dice(numdice={args['dice']},dice_sides={args['faces']})")
    policy = policies.TabularPolicy(game)
    places = [(state, same_place(state, args)) for state in policy.states]
    assert len(policy.states) == len(tree.decisions)
    rng = random.Random(1)
    for number in range(3):
        table = uniform(tree)
        for row in table.values() if number else ():
            weights = [rng.random() ** 3 for _ in row]
            row.update(zip(row, (weight / sum(weights) for weight in weights), strict=True))
        for state, ours in places:
            row, probabilities = (
                table[ours.observe(ours.current_player())],
                policy.policy_for_key(state.information_state_string()),
            )
            probabilities[:] = 0
            probabilities[state.legal_actions()] = [row[move] for move in ours.legal_moves()]
        assert nash_conv(tree, table).nash_conv == pytest.approx(exploitability.nash_conv(game, policy), abs=1e-9)


@pytest.mark.parametrize(
    "args", [{"dice": 0}, {"dice": 6}, {"players": 1}, {"players": 7}, {"faces": 1}, {"faces": 10}, {"wild": 7}]
)
def test_senseless_arguments_are_refused(args):
    [(name, value)] = args.items()
    with pytest.raises(SpiralError, match=f"{name}={value}"):
        LiarsDice(**args)
