"""Kuhn poker against its rules: every ending by hand, chips over a match, and what each player may see."""

import copy
import pickle
import random
from collections import Counter

import pytest
import spiral_games
from spiral_games.native.kuhn_poker import HANDS, KuhnPoker

from spiral import Enumerable, IllegalMove, SpiralError

# Player 0's chips, worked out by hand: deal (player 0's card first) -> the five ways a round can go.
LINES = ("check check", "check bet fold", "check bet call", "bet fold", "bet call")
PAYOFFS = {
    "JQ": (-1, -1, -2, 1, -2),
    "JK": (-1, -1, -2, 1, -2),
    "QJ": (1, -1, 2, 1, 2),
    "QK": (-1, -1, -2, 1, -2),
    "KJ": (1, -1, 2, 1, 2),
    "KQ": (1, -1, 2, 1, 2),
}
ENDINGS = [
    (hand, line, chips)
    for hand, row in PAYOFFS.items()
    for line, chips in zip(LINES, row, strict=True)
]  # fmt: skip


def dealt(*hands):
    game = KuhnPoker(len(hands))
    game.reset_to(hands)
    return game


def play(game, line):
    for move in line.split():
        game.play(move)
    return game


def play_randomly(game, rng):
    """Play to the end; yields before every move."""
    while game.current_player() is not None:
        yield
        game.play(rng.choice(game.legal_moves()))


@pytest.mark.parametrize(("hand", "line", "chips"), ENDINGS)
def test_every_ending_pays_what_the_rules_say(hand, line, chips):
    game = play(dealt(hand), line)
    assert game.current_player() is None
    assert game.legal_moves() == []
    assert game.returns() == [chips, -chips]


def test_there_are_exactly_five_lines_from_each_deal():
    found = Counter()

    def visit(game, hand, line):
        if game.current_player() is None:
            found[hand, " ".join(line)] += 1
        for move in game.legal_moves():
            after = copy.deepcopy(game)
            after.play(move)
            visit(after, hand, [*line, move])

    for _, deal in KuhnPoker().deals():
        visit(dealt(*deal), deal[0], [])
    assert found == Counter({(hand, line): 1 for hand, line, _ in ENDINGS})
    assert len(ENDINGS) == 30


@pytest.mark.parametrize(
    ("line", "player", "moves"),
    [
        ("", 0, ["check", "bet"]),
        ("check", 1, ["check", "bet"]),
        ("bet", 1, ["call", "fold"]),
        ("check bet", 0, ["call", "fold"]),
    ],
)
def test_who_moves_and_what_is_legal(line, player, moves):
    game = play(dealt("QK"), line)
    assert game.current_player() == player
    assert game.legal_moves() == moves


@pytest.mark.parametrize(
    ("line", "player", "text"),
    [
        ("", 0, "kuhn p0 Q"),
        ("", 1, "kuhn p1 K"),
        ("check bet", 0, "kuhn p0 Q check bet"),
        ("check bet", 1, "kuhn p1 K check bet"),
        ("check check", 0, "kuhn p0 QK check check"),
        ("bet call", 1, "kuhn p1 KQ bet call"),
        ("check bet fold", 0, "kuhn p0 Q? check bet fold"),
        ("bet fold", 1, "kuhn p1 K? bet fold"),
    ],
)
def test_observation_of_one_round(line, player, text):
    assert play(dealt("QK"), line).observe(player) == text


@pytest.mark.parametrize("line", ["", "check", "bet", "check bet", "bet fold", "check bet fold"])
@pytest.mark.parametrize("player", [0, 1])
def test_the_other_card_is_hidden_until_a_showdown(line, player):
    seen = {}
    for hand in HANDS:
        seen.setdefault(hand[player], set()).add(play(dealt(hand), line).observe(player))
    assert {card: len(texts) for card, texts in seen.items()} == {"J": 1, "Q": 1, "K": 1}


def test_there_are_twelve_information_states():
    seen = {
        (player, play(dealt(hand), line).observe(player))
        for hand in HANDS
        for line, player in [("", 0), ("check", 1), ("bet", 1), ("check bet", 0)]
    }
    assert len(seen) == 12


def test_match_observation_tells_rounds_chips_and_shown_cards():
    game = play(dealt("KQ", "JK", "QJ"), "check bet call bet fold check")
    assert game.observe(0) == "kuhn p0 3/3 +1; KQ check bet call; J? bet fold; Q check"
    assert game.observe(1) == "kuhn p1 3/3 -1; QK check bet call; K? bet fold; J check"
    game.play("check")
    assert game.observe(0) == "kuhn p0 3/3 +2; KQ check bet call; J? bet fold; QJ check check"
    assert game.current_player() is None


def test_first_player_alternates_over_a_match():
    game = dealt("KQ", "KQ", "KQ", "KQ", "KQ")
    first = []
    for _ in range(5):
        first.append(game.current_player())
        play(game, "check check")
    assert first == [0, 1, 0, 1, 0]


def test_chips_really_move_and_a_called_bet_moves_twice_as_many():
    # Player 0 wins 1 (checks), loses 2 (calls player 1's bet), then loses 1 (folds its king).
    game = dealt("KQ", "JQ", "KJ")
    totals = []
    for line in ("check check", "bet call", "check bet fold"):
        play(game, line)
        totals.append(game.returns()[0])
    assert totals == [1, -1, -2]


def test_fold_pays_the_right_player_when_player_1_is_first():
    assert play(dealt("KQ", "KQ"), "check check bet fold").returns() == [0, 0]
    assert play(dealt("KQ", "KQ"), "check check check bet fold").returns() == [2, -2]


def test_chips_are_conserved_in_matches_of_five_rounds():
    rng = random.Random(5)
    amounts = Counter()
    for _ in range(200):
        game = KuhnPoker(rounds=5)
        game.reset(rng)
        before, rounds = 0.0, 0
        for _ in play_randomly(game, rng):
            now = game.returns()
            assert now[0] + now[1] == 0
            if now[0] != before:
                amounts[abs(now[0] - before)] += 1
                before, rounds = now[0], rounds + 1
        amounts[abs(game.returns()[0] - before)] += 1
        assert rounds + 1 == 5  # every round moves chips
        assert game.worst_return <= min(game.returns())
    assert set(amounts) == {1, 2}


@pytest.mark.parametrize(("rounds", "count"), [(1, 6), (2, 36)])
def test_deals_are_all_hands_with_probabilities_that_add_up(rounds, count):
    deals = list(KuhnPoker(rounds).deals())
    assert len({deal for _, deal in deals}) == len(deals) == count
    assert sum(p for p, _ in deals) == pytest.approx(1)
    assert isinstance(KuhnPoker(), Enumerable)


def test_deals_of_a_long_match_are_lazy():
    assert next(iter(KuhnPoker(40).deals()))[1] == ("JQ",) * 40


def test_reset_deals_uniformly_and_only_from_its_generator():
    game, rng = KuhnPoker(), random.Random(0)
    counts = Counter()
    for _ in range(6000):
        game.reset(rng)
        counts[game.observe(0)[-1] + game.observe(1)[-1]] += 1
    assert set(counts) == set(HANDS)
    assert all(850 < n < 1150 for n in counts.values())  # 5 standard deviations are 144
    seen = []
    for noise in (1, 2):
        random.seed(noise)
        game.reset(random.Random(7))
        seen.append(pickle.dumps(game))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("move", ["call", "fold", "Check", " check", "check bet", "", "0", "raise"])
def test_an_illegal_move_says_what_is_legal_and_changes_nothing(move):
    game = dealt("KQ", "JQ")
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match="check and bet"):
        game.play(move)
    assert pickle.dumps(game) == before


def test_no_move_after_the_end():
    game = play(dealt("KQ"), "check check")
    with pytest.raises(IllegalMove, match="over"):
        game.play("check")


@pytest.mark.parametrize("rounds", [1, 5])
@pytest.mark.parametrize("player", [0, 1])
def test_resample_redraws_only_what_is_hidden(rounds, player):
    rng = random.Random(11)
    changed = 0
    for _ in range(100):
        game = KuhnPoker(rounds)
        game.reset(rng)
        for _ in play_randomly(game, rng):
            before, other = game.observe(player), game.observe(1 - player)
            chips = game.returns()
            game.resample(player, rng)
            assert game.observe(player) == before
            assert game.returns() == chips
            changed += game.observe(1 - player) != other
    assert changed > 50


def test_resample_after_a_showdown_changes_no_known_round():
    game = play(dealt("KQ", "QJ"), "bet call")
    for seed in range(20):
        game.resample(1, random.Random(seed))
        assert game.observe(0).startswith("kuhn p0 2/2 +2; KQ bet call; ")


def test_resample_redraws_a_card_that_was_folded_unseen():
    seen = set()
    for seed in range(20):
        game = play(dealt("KQ", "QJ"), "bet fold")
        game.resample(0, random.Random(seed))
        seen.add(game.observe(1).split("; ")[1])
    assert seen == {"Q? bet fold", "J? bet fold"}


def test_rounds_below_one_are_refused():
    with pytest.raises(SpiralError, match="rounds=0"):
        KuhnPoker(0)


def test_worst_return_is_a_lost_bet_every_round():
    assert KuhnPoker().worst_return == -2
    assert play(dealt("JK", "JK"), "bet call bet call").returns()[0] == KuhnPoker(2).worst_return


def test_the_plugin_registers_games_and_bots():
    """Kuhn poker takes its arguments through the door that all plug-ins use; families list their members."""
    games, bots, families = {}, {}, {}

    def register_game(name, factory, members=None):
        (games if members is None else families)[name] = factory

    spiral_games.register_games(register_game)
    spiral_games.register_bots(bots.__setitem__)
    assert {"kuhn_poker", "leduc_poker", "simple_negotiation", "tic_tac_toe"} <= {*games}
    assert {*families} == {"openspiel", "textarena"}
    assert games["kuhn_poker"](rounds=2).rounds == 2
    assert sorted(bots) == ["equilibrium", "openspiel_cfr", "openspiel_mcts", "openspiel_random"]
