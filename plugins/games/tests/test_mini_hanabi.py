"""Mini Hanabi against its rules by hand, hidden cards by enumeration, and the best joint play by a search of its own."""

import copy
import itertools
import pickle
import random
from collections import Counter, defaultdict

import pytest
from spiral_games.native.mini_hanabi import GONE, MiniHanabi

from spiral import Enumerable, IllegalMove, SpiralError, is_zero_sum, worst_return
from spiral.testing import check_game
from spiral.theory import GameTree, nash_conv, uniform, values

SIZES = [
    {},
    {"hints": 1},
    {"fuses": 2},
    {"hand": 1, "hints": 1},
    {"copies": 2},
    {"colours": 3, "ranks": 3, "hand": 3, "hints": 3, "fuses": 3},
]


def dealt(deal, *moves, **size):
    """A match with these cards, such as "r1 r2 b1 b2", after these moves."""
    game = MiniHanabi(**size)
    game.reset_to(tuple(deal.split()))
    for move in moves:
        game.play(move)
    return game


def histories(game, seed):
    """The match after each move of random play, the start and the end included."""
    rng = random.Random(seed)
    game.reset(rng)
    yield game
    while game.current_player() is not None:
        game.play(rng.choice(game.legal_moves()))
        yield game


@pytest.mark.parametrize("size", SIZES)
def test_the_kit_finds_no_fault(size):
    assert check_game(lambda: MiniHanabi(**size)) == []


def test_it_is_cooperative():
    assert not is_zero_sum(MiniHanabi())
    assert worst_return(MiniHanabi()) == 0
    assert isinstance(MiniHanabi(), Enumerable)


def test_a_match_by_hand():
    """Both sides' view after each move: the other's cards, tokens, fireworks, and what everyone could see."""
    game = dealt("r1 b2 b1 r2")
    assert game.observe(0) == "hanabi p0 b1r2 h2f1 r0b0"
    assert game.observe(1) == "hanabi p1 r1b2 h2f1 r0b0"
    assert game.legal_moves() == ["play 1", "play 2", "hint r", "hint b", "hint 1", "hint 2"]
    for move in ("hint b", "play 1", "play 1", "hint 2", "play 2", "play 2"):
        game.play(move)
    assert game.observe(0) == "hanabi p0 ---- h0f1 r2b2 b:1 1b1+ 1r1+ 2:2 2b2+ 2r2+"
    assert game.current_player() is None
    assert game.legal_moves() == []
    assert game.returns() == [4, 4]


def test_the_last_fuse_ends_the_match_and_leaves_what_is_there():
    game = dealt("r1 r2 b1 b2", "play 1", "play 2")
    assert game.current_player() is None
    assert game.observe(1) == "hanabi p1 --r2 h2f0 r1b0 1r1+ 2b2x"
    assert game.returns() == [1, 1]
    game = dealt("r1 r2 b1 b2", "play 1", "play 2", fuses=2)
    assert game.current_player() == 0
    assert game.observe(1) == "hanabi p1 --r2 h2f1 r1b0 1r1+ 2b2x"


def test_a_card_that_is_drawn_takes_the_place_of_the_one_that_left():
    game = dealt("r1 r2 b1 b2 r1 b1", "play 1", copies=2)
    assert game.observe(1) == "hanabi p1 r1r2 h2f1 r1b0 1r1+"
    game.play("hint 2")
    assert "discard 1" in game.legal_moves()
    game.play("discard 1")
    assert game.observe(1) == "hanabi p1 b1r2 h2f1 r1b0 1r1+ 2:2 d1r1"
    assert not any(move.startswith("discard") for move in game.legal_moves())  # nothing is left to draw


def test_a_match_ends_where_the_player_to_move_can_do_nothing():
    """Player 0 has played both cards and the hint is spent; player 1's last card stays unplayed."""
    game = dealt("r1 r2 b1 b2", "play 1", "hint r", "play 2", hints=1)
    assert game.current_player() == 1
    game.play("play 1")
    assert game.observe(0) == "hanabi p0 --b2 h0f1 r2b1 1r1+ r:2 2r2+ 1b1+"
    assert game.current_player() is None
    assert game.returns() == [3, 3]


def test_three_points_on_three_turns_are_three_for_both_at_every_step():
    """open_spiel#68, PettingZoo#136: a point is common, whoever earned it, and is counted once."""
    game = dealt("r1 b2 b1 r2")
    for number, move in enumerate(("play 1", "play 1", "play 2"), 1):
        game.play(move)
        assert game.judge() == [number, number]
        assert game.returns() == [number, number]
    assert game.current_player() == 1  # a fourth point is still to be had


@pytest.mark.parametrize(
    ("moves", "move", "reason"),
    [
        ((), "play 3", "the moves now are play 1, play 2, hint r, hint b, hint 1, hint 2"),
        ((), "discard 1", "the moves now"), ((), "hint g", "the moves now"), ((), "play", "the moves now"),
        ((), "", "the moves now"), ((), "hint 1 ", "the moves now"), (("play 1",), "hint 3", "the moves now"),
        (("play 2",), "play 1", "over"),
    ],
)  # fmt: skip
def test_an_illegal_move_says_what_is_legal_and_changes_nothing(moves, move, reason):
    game = dealt("r1 b2 b1 r2", *moves)
    before = pickle.dumps(game)
    with pytest.raises(IllegalMove, match=reason):
        game.play(move)
    assert pickle.dumps(game) == before


@pytest.mark.parametrize("size", SIZES)
def test_no_card_and_no_token_is_lost(size):
    """The cards in hands, in the pile and in the moves are the deck; tokens left are those not spent."""
    whole = MiniHanabi(**size)
    whole.reset(random.Random(0))
    deck = Counter([*whole._hands[0], *whole._hands[1], *whole._pile])
    for seed in range(30):
        for game in histories(MiniHanabi(**size), seed):
            laid = [entry.strip("d+x")[1:] for entry in game._log if ":" not in entry]
            held = [card for hand in game._hands for card in hand if card != GONE]
            assert Counter([*laid, *held, *game._pile]) == deck
            hints = sum(":" in entry for entry in game._log) - sum(entry[0] == "d" for entry in game._log)
            assert game._hints_left == game.hints - hints >= 0
            assert game._fuses_left == game.fuses - sum(entry[-1] == "x" for entry in game._log) >= 0
            assert game.returns() == [sum(entry[-1] == "+" for entry in game._log)] * 2


def test_deals_are_the_orders_of_the_deck():
    assert len(list(MiniHanabi().deals())) == 24
    deals = list(MiniHanabi(copies=2).deals())
    assert len(deals) == len({deal for _, deal in deals}) == 720 / 4
    assert sum(probability for probability, _ in deals) == pytest.approx(1)


@pytest.mark.parametrize("size", [{}, {"hand": 1, "hints": 1}, {"copies": 2}])
def test_resample_redraws_exactly_what_is_hidden(size):
    """The hands that it draws are those of the deals in which the same moves look the same to the player."""
    played, rng = [], random.Random(1)
    for seed in range(6):
        moves, game = [], MiniHanabi(**size)
        game.reset(random.Random(seed))
        for _ in range(4):
            if game.current_player() is None:
                break
            moves.append(rng.choice(game.legal_moves()))
            game.play(moves[-1])
        played.append((moves, game))
    for (moves, game), player in itertools.product(played, range(2)):
        seen, possible = game.observe(player), set()
        for _, deal in game.deals():
            other = MiniHanabi(**size)
            other.reset_to(deal)
            try:
                for move in moves:
                    other.play(move)
            except IllegalMove:
                continue
            if other.observe(player) == seen:
                possible.add((*other._hands[player], *other._pile))
        drawn = set()
        for _ in range(40 * len(possible)):
            again = copy.deepcopy(game)
            again.resample(player, rng)
            assert again.observe(player) == seen
            drawn.add((*again._hands[player], *again._pile))
        assert drawn == possible


def test_random_play_without_hints_by_hand():
    """Two cards of four fit first. Then, of r2 b1 b2 after r1, two of three; after r1 and r2 one of two, after r1 and
    b1 both, and then the last: 1/2 + 1/2 2/3 + 1/3 1/2 1/2 ... = 1/2 + 1/3 + 1/4 + 1/4."""
    tree = GameTree.of(MiniHanabi(hints=0))
    assert values(tree, uniform(tree)) == pytest.approx((4 / 3, 4 / 3))


def test_best_play_of_two_cards_by_every_joint_policy():
    """One colour, ranks 1 and 2, a card each, one hint: a hint can say "yours is the 1", and both points are sure."""
    assert best_of_all(MiniHanabi(colours=1, hand=1, hints=1)) == 2
    assert best_of_all(MiniHanabi(colours=1, hand=1, hints=0)) == 1


def test_best_play_of_the_default_size_is_worth_every_card():
    """4, the number of cards, is more than no policy can have; this search finds one that has it in every deal."""
    tree = GameTree.of(MiniHanabi())
    policy = improved(MiniHanabi(), random.Random(0))
    table = {d.observation: {move: float(move == policy[d.observation]) for move in d.moves} for d in tree.decisions}
    assert values(tree, table) == pytest.approx((4, 4))
    assert nash_conv(tree, table).nash_conv == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("size", "positions", "decisions", "random_value"),
    [({}, 3437, 3232, 1.3096), ({"fuses": 2}, 7925, 7516, 2.4931), ({"hints": 1}, 653, 560, 1.2907)],
)
def test_sizes_and_the_value_of_random_play(size, positions, decisions, random_value):
    """As docs/games/mini_hanabi.md has them."""
    tree = GameTree.of(MiniHanabi(**size))
    assert (len(tree.nodes), len(tree.decisions)) == (positions, decisions)
    assert values(tree, uniform(tree))[0] == pytest.approx(random_value, abs=5e-5)


@pytest.mark.parametrize(
    "args", [{"colours": 4}, {"ranks": 0}, {"copies": 3}, {"hand": 3}, {"hints": -1}, {"fuses": 0}]
)
def test_bad_arguments(args):
    ((name, value),) = args.items()
    with pytest.raises(SpiralError, match=rf"mini_hanabi got .*{name}={value}.*it needs"):
        MiniHanabi(**args)


def after(game, move):
    game = copy.deepcopy(game)
    game.play(move)
    return game


def starts(game):
    found = []
    for _, deal in game.deals():
        start = copy.deepcopy(game)
        start.reset_to(deal)
        found.append(start)
    return found


def best_of_all(game):
    """The highest mean return of all deterministic joint policies, each played out."""
    faced = {}

    def visit(match):
        if match.current_player() is not None:
            faced[match.observe(match.current_player())] = match.legal_moves()
            for move in match.legal_moves():
                visit(after(match, move))

    def played(match, policy):
        while match.current_player() is not None:
            match = after(match, policy[match.observe(match.current_player())])
        return match.returns()[0]

    roots = starts(game)
    for root in roots:
        visit(root)
    joint = (dict(zip(faced, choice, strict=True)) for choice in itertools.product(*faced.values()))
    return max(sum(played(root, policy) for root in roots) / len(roots) for policy in joint)


def improved(game, rng):
    """observation -> move: from a random joint policy, one player's best reply to the other's moves after another, until
    neither finds a better one. All policies are deterministic; a deal in which an observation is met counts alike."""
    moves, met = {}, defaultdict(list)  # met: (the match, the moves that the other made on the way there)

    def visit(match, way):
        player = match.current_player()
        if player is None:
            return
        seen = match.observe(player)
        moves[seen] = match.legal_moves()
        met[player, seen].append((match, [step for step in way if step[0] != player]))
        for move in moves[seen]:
            visit(after(match, move), [*way, (player, seen, move)])

    def worth(match):
        while match.current_player() is not None:
            match = after(match, policy[match.observe(match.current_player())])
        return match.returns()[0]

    roots = starts(game)
    for root in roots:
        visit(root, [])
    policy, before = {seen: rng.choice(options) for seen, options in moves.items()}, -1.0
    latest_first = sorted(met, key=lambda key: -len(key[1]))  # an observation grows with each move
    while (now := sum(map(worth, roots))) > before:
        before = now
        for player, seen in (key for turn in (0, 1) for key in latest_first if key[0] == turn):
            reached = [m for m, way in met[player, seen] if all(policy[saw] == move for _, saw, move in way)]
            gains = {move: sum(worth(after(match, move)) for match in reached) for move in moves[seen]}
            best = [move for move, gain in gains.items() if gain == max(gains.values())]
            # Anew where nothing is reached: what a player would do there decides whether the other goes there.
            if policy[seen] not in best or not reached:
                policy[seen] = rng.choice(best)
    return policy
