"""Exact exploitability twice: by spiral.theory.best_response and by OpenSpiel, on the same tables."""

import copy
import itertools
import random

import pytest

pytest.importorskip("pyspiel")

import pyspiel
from spiral_games.openspiel import OpenSpielCFR, game_names, open_spiel_game, openspiel_nash_conv
from spiral_games.openspiel.catalogue import load
from spiral_games.openspiel.exploitability import cfr_rows

from spiral import SpiralError, theory
from spiral.theory import GameTree

GAMES = [
    ("kuhn_poker", {}, "full"),
    ("kuhn_poker", {"players": 3}, "full"),
    ("leduc_poker", {}, "full"),
    ("leduc_poker", {}, "short"),
    ("liars_dice", {"dice_sides": 3}, "full"),
    ("goofspiel", {"num_cards": 3}, "full"),
    ("sheriff", {"max_items": 1, "max_bribe": 1, "num_rounds": 1}, "full"),
    ("nim", {"pile_sizes": "1;2;3"}, "full"),
]


def random_table(tree, rng):
    table = {}
    for decision in tree.decisions:
        weights = [rng.random() ** 3 for _ in decision.moves]
        table[decision.observation] = {m: w / sum(weights) for m, w in zip(decision.moves, weights, strict=True)}
    return table


def compare(game, table, tree):
    ours, theirs = theory.nash_conv(tree, table), openspiel_nash_conv(game, table)
    assert ours.values == pytest.approx(theirs.values, abs=1e-9)
    assert ours.best_response_values == pytest.approx(theirs.best_response_values, abs=1e-9)
    assert ours.nash_conv == pytest.approx(theirs.nash_conv, abs=1e-9)
    return theirs


@pytest.mark.parametrize(("name", "params", "style"), GAMES)
def test_open_spiel_and_our_theory_agree_on_random_tables(name, params, style):
    """Values and best responses of every player, on three tables each, to 1e-9."""
    game = open_spiel_game(name, params, style)
    tree = GameTree.of(game)
    for seed in range(3):
        compare(game, random_table(tree, random.Random(seed)), tree)


@pytest.mark.parametrize(
    ("name", "params", "nash_conv", "num_decisions"),
    [
        ("kuhn_poker", {}, 11 / 12, 12),  # test_kuhn_poker_uniform_random of OpenSpiel's exploitability_test.py
        ("leduc_poker", {}, 4.7472222222222, 936),  # test_2p_nash_conv of the same file
    ],
)
def test_uniform_play_is_as_exploitable_as_published(name, params, nash_conv, num_decisions):
    game = open_spiel_game(name, params)
    tree = GameTree.of(game)
    assert len(tree.decisions) == num_decisions
    assert compare(game, theory.uniform(tree), tree).nash_conv == pytest.approx(nash_conv, abs=1e-9)


def test_the_second_player_wins_nim_from_a_balanced_position():
    """1 xor 2 xor 3 is 0, so the player to move loses (Bouton 1901); CFR+ finds it, one row a history."""
    loaded = open_spiel_game("nim", {"pile_sizes": "1;2;3", "is_misere": False}).loaded
    policy = pyspiel.TabularPolicy(cfr_rows(loaded, 200))
    values = pyspiel.expected_returns(loaded.game.new_initial_state(), policy, -1, True)
    assert values == pytest.approx([-1, 1], abs=0.02)


def test_no_table_is_made_where_one_observation_stands_for_many_information_states():
    """A row a board cannot hold a policy that differs by the way there."""
    with pytest.raises(SpiralError, match="openspiel/nim shows the same text for several information states"):
        OpenSpielCFR(10).table(open_spiel_game("nim", {"pile_sizes": "1;2;3"}))


@pytest.mark.slow
def test_tic_tac_toe_agrees_on_half_a_million_histories():
    """Uniform play: NashConv by merged boards (ours) and by 549,946 histories (OpenSpiel's)."""
    game = open_spiel_game("tic_tac_toe")
    tree = GameTree.of(game)
    assert len(tree.decisions) == 4_520
    result = compare(game, theory.uniform(tree), tree)
    # Uniform play of both: the first player wins 0.5849 and loses 0.2881 of the matches, to four places.
    assert result.values[0] == pytest.approx(0.5849 - 0.2881, abs=1e-4)


def test_best_joint_play_of_tiny_hanabi_is_worth_10():
    """Of all 6,561 deterministic joint policies. There are others, worth 9, 8, 7.5 and 5, that no change of one decision
    makes better. Random play is worth 3.7222. The game is that of Foerster et al. 2019, "Bayesian Action Decoder"."""
    tree = GameTree.of(open_spiel_game("tiny_hanabi"))
    assert theory.values(tree, theory.uniform(tree)) == pytest.approx((67 / 18, 67 / 18))
    worth = {policy: joint_worth(tree, policy) for policy in itertools.product(*[d.moves for d in tree.decisions])}
    assert len(worth) == 3**8
    assert max(worth.values()) == 10
    settled = {
        value for policy, value in worth.items() if all(worth[other] <= value for other in neighbours(policy, tree))
    }
    assert settled == {5, 7.5, 8, 9, 10}


def joint_worth(tree, policy):
    """What both players get who choose `policy[d]` at decision d."""
    total = 0.0
    for probability, node in tree.roots:
        while (at := tree.nodes[node]).decision >= 0:
            node = at.children[tree.decisions[at.decision].moves.index(policy[at.decision])]
        total += probability * tree.nodes[node].returns[0]
    return total


def neighbours(policy, tree):
    """The policies that differ at one decision."""
    for number, decision in enumerate(tree.decisions):
        yield from ((*policy[:number], move, *policy[number + 1 :]) for move in decision.moves)


def test_cfr_comes_near_the_equilibrium_of_kuhn_poker():
    """Value -1/18 for the first player (Kuhn 1950)."""
    game = open_spiel_game("kuhn_poker")
    tree = GameTree.of(game)
    result = theory.nash_conv(tree, OpenSpielCFR(iterations=300).table(game))
    assert result.nash_conv < 0.005
    assert result.values[0] == pytest.approx(-1 / 18, abs=0.002)


def test_cfr_comes_near_the_equilibrium_of_leduc_poker_and_nearer_with_more_iterations():
    game = open_spiel_game("leduc_poker", style="short")
    tree = GameTree.of(game)
    found = [theory.nash_conv(tree, OpenSpielCFR(iterations).table(game)).nash_conv for iterations in (10, 100)]
    assert found[1] < 0.04 < found[0]


def test_a_table_without_a_needed_row_and_a_game_too_large_are_one_sentence_each():
    with pytest.raises(SpiralError, match="the table has no row for 'p0 "):
        openspiel_nash_conv(open_spiel_game("kuhn_poker"), {})
    with pytest.raises(SpiralError, match="exact theory goes to 3e"):
        openspiel_nash_conv(open_spiel_game("chess"), {})
    with pytest.raises(SpiralError, match="no information states"):
        openspiel_nash_conv(open_spiel_game("pig"), {})
    with pytest.raises(SpiralError, match="CFR would visit about .* of openspiel/liars_dice in 200"):
        cfr_rows(open_spiel_game("liars_dice").loaded, 200)


def test_go_is_not_folded_where_superko_counts():
    """Go on two by two, uniform play: -.9408 and best responses of -.4583 where boards that look alike are taken for one
    position, although what was on the board before may not come back; OpenSpiel walks every history."""
    game = open_spiel_game("go", {"board_size": 2})
    tree = GameTree.of(game)
    found = theory.nash_conv(tree, theory.uniform(tree))
    assert found.values[0] == pytest.approx(-0.931481481)
    assert found.best_response_values[0] == pytest.approx(-0.5625)
    assert game.perfect_information


@pytest.mark.parametrize(("name", "params"), [("chess", {}), ("misere", {"game": "go(board_size=3)"})])
def test_a_position_reached_twice_is_told_by_its_way(name, params):
    """Chess counts positions that come back: two knights out and home again are not two others, though the board, the
    clock and the number of the move are the same. A game inside a game keeps what it needs."""
    ways = {
        "chess": ("Nf3 Nf6 Ng1 Ng8", "Nc3 Nc6 Nb1 Nb8"),
        "misere": ("a1 c3 b2", "b2 c3 a1"),
    }[name]
    texts = []
    for way in ways:
        game = open_spiel_game(name, params)
        game.reset(random.Random(0))
        for move in way.split():
            game.play(next(listed for listed in game.legal_moves() if listed.split()[-1] == move))
        texts.append(game.observe(game.current_player()))
    assert texts[0] != texts[1]
    assert texts[0].rpartition("\n")[0] == texts[1].rpartition("\n")[0]


PERFECT = [name for name in game_names() if load(name).perfect_information]
SMALL = {
    "go": {"board_size": 3},
    "cursor_go": {"board_size": 3},
    "hex": {"board_size": 3},
    "y": {"board_size": 3},
    "havannah": {"board_size": 3},
    "breakthrough": {"rows": 4, "columns": 4},
    "clobber": {"rows": 3, "columns": 3},
    "mnk": {"m": 4, "n": 4, "k": 3},
}


def differs(game, other, rng):
    """Whether two positions with one text go on differently under the same random moves, up to a dice's throw."""
    for _ in range(60):
        player = game.current_player()
        if player != other.current_player():
            return True
        if player is None:
            return game.returns() != other.returns()
        if game.observe(player) != other.observe(player):
            return not game.loaded.stochastic
        if set(game.legal_moves()) != set(other.legal_moves()):
            return True
        move = rng.choice(game.legal_moves())
        game.play(move)
        other.play(move)
    return False


@pytest.mark.parametrize("name", PERFECT)
def test_the_text_of_a_game_of_perfect_information_determines_what_may_follow(name):
    """Matches and the same ones with two moves exchanged: where they show one text, they go on alike."""
    rng, made = random.Random(0), open_spiel_game(name, SMALL.get(name))
    for seed in range(12):
        game = copy.deepcopy(made)
        game.reset(random.Random(seed))
        other, moves = copy.deepcopy(game), []
        for _ in range(rng.choice((4, 8, 12, 20))):
            if game.current_player() is not None:
                moves.append(rng.choice(game.legal_moves()))
                game.play(moves[-1])
        first = rng.randrange(max(1, len(moves) - 2))
        moves[first : first + 3] = moves[first : first + 3][::-1]
        for move in moves:
            if other.current_player() is not None and move in other.legal_moves():
                other.play(move)
        player = game.current_player()
        if player is not None and other.current_player() == player and game.observe(player) == other.observe(player):
            assert not differs(game, other, rng), game.observe(player)
