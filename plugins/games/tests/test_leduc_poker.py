"""Leduc hold'em against its rules by hand, and against OpenSpiel's game on random policies and at equilibrium."""

import itertools
import pickle
import random
from collections import Counter

import pytest
from spiral_games.native.leduc_poker import LeducPoker

from spiral import Enumerable, IllegalMove
from spiral.testing import check_game
from spiral.theory import GameTree, best_response, nash_conv, uniform, values

MOVES = {"f": "fold", "c": "call", "r": "raise"}
ROUNDS = ("cc", "rc", "rrc", "crc", "crrc")
STAKES = {"cc": 0, "rc": 1, "rrc": 2, "crc": 1, "crrc": 2}  # bets that each player has called at the round's end


def dealt(deal, line=""):
    game = LeducPoker()
    game.reset_to(deal)
    for letter in line:
        game.play(MOVES[letter])
    return game


@pytest.fixture(scope="module")
def tree():
    return GameTree.of(LeducPoker())


def test_the_kit_finds_no_fault():
    assert check_game(LeducPoker) == []


# Player 0's sign at a showdown, by hand.
@pytest.mark.parametrize(
    ("deal", "sign"),
    [
        ("KQJ", 1), ("QKJ", -1), ("KJQ", 1), ("JQK", -1),  # no pair: the higher card
        ("JKJ", 1), ("KJJ", -1), ("QKQ", 1), ("KQK", 1),  # a pair beats any card
        ("KKQ", 0), ("JJK", 0),  # equal cards
    ],
)  # fmt: skip
def test_every_showdown_pays_the_called_bets(deal, sign):
    for first, second in itertools.product(ROUNDS, repeat=2):
        game = dealt(deal, first + second)
        chips = 1 + 2 * STAKES[first] + 4 * STAKES[second]
        assert game.current_player() is None
        assert game.legal_moves() == []
        assert game.returns() == [sign * chips, -sign * chips]


@pytest.mark.parametrize(
    ("line", "chips"),
    [("rf", 1), ("crf", -1), ("rrf", -3), ("crrf", 3), ("rcrf", 3), ("crrccrrf", 9), ("crrcrrf", -9), ("ccrf", 1)],
)
def test_a_fold_loses_what_was_paid_whatever_the_cards(line, chips):
    for deal in ("KQJ", "JKJ", "QQK"):
        game = dealt(deal, line)
        assert game.current_player() is None
        assert game.returns() == [chips, -chips]


def test_the_worst_return_is_two_raises_called_in_both_rounds():
    assert dealt("QKJ", "rrcrrc").returns()[0] == LeducPoker.worst_return == -13


@pytest.mark.parametrize(
    ("line", "player", "moves"),
    [
        ("", 0, "call raise"), ("c", 1, "call raise"), ("r", 1, "fold call raise"), ("cr", 0, "fold call raise"),
        ("rr", 0, "fold call"), ("crr", 1, "fold call"),
        ("cc", 0, "call raise"), ("crc", 0, "call raise"), ("rrcc", 1, "call raise"), ("rrccr", 0, "fold call raise"),
    ],
)  # fmt: skip
def test_who_moves_and_what_is_legal(line, player, moves):
    game = dealt("KQJ", line)
    assert game.current_player() == player
    assert game.legal_moves() == moves.split()


@pytest.mark.parametrize(
    ("line", "player", "text"),
    [
        ("", 0, "leduc p0 K"),
        ("", 1, "leduc p1 Q"),
        ("crr", 1, "leduc p1 Q crr"),
        ("crrc", 0, "leduc p0 K crrc J"),
        ("rcc", 1, "leduc p1 Q rc J c"),
        ("rccrc", 0, "leduc p0 KQ rc J crc"),
        ("rf", 0, "leduc p0 K? rf"),
        ("ccrf", 1, "leduc p1 Q? cc J rf"),
    ],
)
def test_observation(line, player, text):
    assert dealt("KQJ", line).observe(player) == text


@pytest.mark.parametrize(
    ("line", "move", "reason"),
    [
        ("", "fold", "call and raise"), ("", "check", "call and raise"), ("", "Call", "call and raise"),
        ("", "", "call and raise"), ("r", "r", "fold, call and raise"), ("rr", "raise", "fold and call"),
        ("ccrr", "raise", "fold and call"), ("cccc", "call", "over"), ("rf", "call", "over"),
    ],
)  # fmt: skip
def test_an_illegal_move_says_what_is_legal_and_changes_nothing(line, move, reason):
    game = dealt("KQJ", line)
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == before


def test_deals_are_those_of_a_deck_of_six():
    deals = list(LeducPoker().deals())
    deck = "JJQQKK"
    counted = Counter(
        deck[a] + deck[b] + deck[c] for a in range(6) for b in range(6) for c in range(6) if len({a, b, c}) == 3
    )
    assert {deal: round(120 * p) for p, deal in deals} == counted
    assert len(deals) == 24
    assert isinstance(LeducPoker(), Enumerable)


def test_reset_deals_as_deals_says():
    rng, game, counts = random.Random(0), LeducPoker(), Counter()
    for _ in range(12000):
        game.reset(rng)
        for letter in "cccc":
            game.play(MOVES[letter])
        words = game.observe(0).split()
        counts[words[2] + words[4]] += 1
    for p, deal in LeducPoker().deals():
        assert abs(counts[deal] - 12000 * p) < 150  # 6 standard deviations


@pytest.mark.parametrize(
    ("line", "known"),
    [("", ""), ("cr", ""), ("rf", ""), ("cc", "public"), ("ccrf", "public"), ("cccc", "public other")],
)
@pytest.mark.parametrize("player", [0, 1])
def test_resample_redraws_exactly_what_is_hidden(line, known, player):
    others, publics = set(), set()
    for seed in range(60):
        game = dealt("KQJ", line)
        before = game.observe(player)
        game.resample(player, random.Random(seed))
        assert game.observe(player) == before
        others.add(game.observe(1 - player).split()[2][0])
        left = {0: "QQJJK", 1: "QJJKK"}[player]
        while game.current_player() is not None:
            game.play("call")
        publics |= set(game.observe(player).split()[4:5])
        assert others <= set(left)
    assert others == ({"QK"[player]} if "other" in known else set("JQK"))
    if not line.endswith("f"):
        assert publics == ({"J"} if "public" in known else set("JQK"))


def test_sizes(tree):
    """288 information states: 18 before the public card, 5 * 6 * 9 after it."""
    assert len(tree.decisions) == len(tree.states) == 288
    assert tree.num_players == 2
    assert max(len(decision.observation) for decision in tree.decisions) == 21


def test_a_checking_opponent_is_beaten_by_value_bets(tree):
    """Against one who never raises or folds, a best response raises twice a round where it is ahead."""
    table = {d.observation: {"call": 1.0} for d in tree.decisions}
    assert values(tree, table) == pytest.approx([0, 0])
    value, response = best_response(tree, table, 0)
    assert value > 1
    assert response["leduc p0 K cc K"] == {"call": 0, "raise": 1}


def openspiel():
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python import policy

    game = pyspiel.load_game("leduc_poker")
    return pyspiel, game, policy.TabularPolicy(game)


def same_place(state):
    """Our game where OpenSpiel's stands, suits left out."""
    cards, line = [], []
    for item in state.full_history():
        if item.player < 0:
            cards.append("JQK"[item.action // 2])
        else:
            line.append("fcr"[item.action])
    deal = next(deal for _, deal in LeducPoker().deals() if deal.startswith("".join(cards)))
    return dealt(deal, line)


def test_nash_conv_equals_openspiel_on_random_tables(tree):
    _, game, policy = openspiel()
    from open_spiel.python.algorithms import exploitability

    assert len(policy.states) == 936
    places = [(state.information_state_string(), same_place(state)) for state in policy.states]
    rng = random.Random(1)
    tables = [uniform(tree)]
    for _ in range(3):
        weights = {d.observation: [rng.random() ** 2 for _ in d.moves] for d in tree.decisions}
        tables.append(
            {
                d.observation: dict(
                    zip(d.moves, (w / sum(weights[d.observation]) for w in weights[d.observation]), strict=True)
                )
                for d in tree.decisions
            }
        )
    for number, table in enumerate(tables):
        for key, ours in places:
            row = table[ours.observe(ours.current_player())]
            policy.policy_for_key(key)[:] = [row.get(MOVES[letter], 0) for letter in "fcr"]
        found = nash_conv(tree, table).nash_conv
        assert found == pytest.approx(exploitability.nash_conv(game, policy), abs=1e-9)
        if number == 0:
            assert found == pytest.approx(4.7472222, abs=1e-6)


def test_the_equilibrium_that_openspiel_finds_is_one_here_and_pays_player_0_its_known_value(tree):
    pyspiel, game, policy = openspiel()
    solver = pyspiel.CFRPlusSolver(game)
    for _ in range(150):
        solver.evaluate_and_update_policy()
    average = solver.average_policy()
    table = {}
    for state in policy.states:
        ours = same_place(state)
        seen = ours.observe(ours.current_player())
        table.setdefault(seen, {MOVES["fcr"[a]]: p for a, p in average.action_probabilities(state).items()})
    found = nash_conv(tree, table)
    assert found.nash_conv < 0.02
    assert found.values[0] == pytest.approx(-0.0856, abs=0.003)
