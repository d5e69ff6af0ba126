"""Exact numbers against analytic anchors, OpenSpiel, and games made to catch a wrong best response."""

import copy
import itertools
import math
import random
import time

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.tic_tac_toe import TicTacToe

from spiral.api.errors import SpiralError
from spiral.api.games import IllegalMove
from spiral.theory import game_tree
from spiral.theory.best_response import GameTree, best_response, nash_conv, outcomes, uniform, values


class Scripted:
    """Players in turn say a or b, `length` times in all; a base for the small games below."""

    rules = ""
    num_players = 2
    length = 2

    def deals(self):
        return [(1.0, "")]

    def reset(self, rng):
        self.reset_to(rng.choice([deal for _, deal in self.deals()]))

    def reset_to(self, deal):
        self.deal, self.history = deal, ()

    def current_player(self):
        return None if len(self.history) == self.length else len(self.history) % self.num_players

    def observe(self, player):
        return f"p{player} {self.deal} {' '.join(self.history)}".strip()

    def legal_moves(self):
        return ["a", "b"]

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove(f"{move} is not a or b")
        self.history += (move,)

    def returns(self):
        return [0.0] * self.num_players


class Echo(Scripted):
    """Its one player sees the coin h or t, says a or b, and is then asked "name it" with nothing else shown.

    Naming the coin (a for h, b for t) wins 1. Both coins and both first moves share the second observation.
    """

    num_players = 1

    def deals(self):
        return [(0.5, "h"), (0.5, "t")]

    def observe(self, player):
        return "name it" if self.history else f"coin {self.deal}"

    def returns(self):
        return [float(self.history[1] == {"h": "a", "t": "b"}[self.deal])]


class Split(Scripted):
    """Three players pick a or b; whoever picked what nobody else did gets 2, from the others 1 each."""

    num_players = 3
    length = 3

    def observe(self, player):
        return f"p{player}"  # what the others picked stays hidden: as if all picked at once

    def returns(self):
        for player, move in enumerate(self.history):
            if self.history.count(move) == 1:
                return [2.0 if player == other else -1.0 for other in range(3)]
        return [0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def kuhn():
    return GameTree.of(KuhnPoker())


@pytest.fixture(scope="module")
def tic_tac_toe():
    return GameTree.of(TicTacToe())


def kuhn_table(tree, chance_to_put_in):
    """A table from `chance_to_put_in(player, card, moves)`, the probability of bet or call."""
    table = {}
    for d in tree.decisions:
        _, _, card, *moves = d.observation.split()
        p = chance_to_put_in(d.player, card, " ".join(moves))
        put, keep = ("bet", "check") if "bet" in d.moves else ("call", "fold")
        table[d.observation] = {put: p, keep: 1 - p}
    return table


def equilibrium(alpha):
    """Kuhn 1950: player 0 bets J with alpha and K with 3 alpha; player 1 bluffs and calls with 1/3."""
    aggression = {
        (0, "J", ""): alpha, (0, "Q", ""): 0, (0, "K", ""): 3 * alpha,
        (0, "J", "check bet"): 0, (0, "Q", "check bet"): alpha + 1 / 3, (0, "K", "check bet"): 1,
        (1, "J", "check"): 1 / 3, (1, "Q", "check"): 0, (1, "K", "check"): 1,
        (1, "J", "bet"): 0, (1, "Q", "bet"): 1 / 3, (1, "K", "bet"): 1,
    }  # fmt: skip
    return lambda player, card, moves: aggression[player, card, moves]


def random_table(tree, rng):
    table = {}
    for d in tree.decisions:
        weights = [rng.gammavariate(0.5, 1) + 1e-9 for _ in d.moves]
        table[d.observation] = {m: w / sum(weights) for m, w in zip(d.moves, weights, strict=True)}
    return table


def test_kuhn_has_twelve_decisions_and_thirty_outcomes(kuhn):
    assert len(kuhn.decisions) == 12
    assert len({d.observation for d in kuhn.decisions}) == 12
    found = list(outcomes(kuhn, uniform(kuhn)))
    assert len(found) == 30  # 6 deals, 5 ways to play
    assert math.fsum(o.probability for o in found) == pytest.approx(1, abs=1e-15)
    assert {o.deal for o in found} == set(range(6))


def test_outcomes_replay_to_their_returns(kuhn):
    game = KuhnPoker()
    deals = [deal for _, deal in game.deals()]
    for outcome in outcomes(kuhn, uniform(kuhn)):
        game.reset_to(deals[outcome.deal])
        for player, observation, move in outcome.moves:
            assert (game.current_player(), game.observe(player)) == (player, observation)
            game.play(move)
        assert game.current_player() is None
        assert tuple(game.returns()) == outcome.returns


def test_kuhn_uniform(kuhn):
    """11/12 is the number of the literature (and of OpenSpiel's tests); player 0's value is 1/8."""
    found = nash_conv(kuhn, uniform(kuhn))
    assert found.nash_conv == pytest.approx(11 / 12, abs=1e-12)
    assert found.exploitability == pytest.approx(11 / 24, abs=1e-12)
    assert found.values == pytest.approx((1 / 8, -1 / 8), abs=1e-12)
    assert found.gains == pytest.approx((3 / 8, 13 / 24), abs=1e-12)


@pytest.mark.parametrize("alpha", [0, 1 / 6, 1 / 3])
def test_kuhn_equilibria(kuhn, alpha):
    found = nash_conv(kuhn, kuhn_table(kuhn, equilibrium(alpha)))
    assert found.nash_conv == pytest.approx(0, abs=1e-12)
    assert found.values == pytest.approx((-1 / 18, 1 / 18), abs=1e-12)


@pytest.mark.parametrize("alpha", [-1e-3, 1 / 3 + 1e-3])
def test_kuhn_is_exploitable_just_outside_the_family(kuhn, alpha):
    table = kuhn_table(kuhn, lambda p, c, m: min(1, max(0, equilibrium(alpha)(p, c, m))))
    if alpha < 0:  # clipped to 0, so spoil the call with Q instead: it is the family's other end
        table["kuhn p0 Q check bet"] = {"call": 1 / 3 + alpha, "fold": 2 / 3 - alpha}
    assert nash_conv(kuhn, table).nash_conv > 1e-5


def test_kuhn_always_bet_and_call(kuhn):
    """By hand. Player 0 gets -1 by check-fold and +-2 by a showdown: check-fold J (-1), showdown with Q is
    even (0), showdown with K (+2): (-1 + 0 + 2) / 3 = 1/3. Player 1 likewise: fold J, call Q and K."""
    found = nash_conv(kuhn, kuhn_table(kuhn, lambda *_: 1.0))
    assert found.values == pytest.approx((0, 0), abs=1e-12)
    assert found.best_response_values == pytest.approx((1 / 3, 1 / 3), abs=1e-12)


def test_kuhn_always_check_and_fold(kuhn):
    """By hand. Nobody calls, so player 0 wins 1 by betting, and so does player 1 after a check."""
    found = nash_conv(kuhn, kuhn_table(kuhn, lambda *_: 0.0))
    assert found.values == pytest.approx((0, 0), abs=1e-12)
    assert found.best_response_values == pytest.approx((1, 1), abs=1e-12)
    assert found.nash_conv == pytest.approx(2, abs=1e-12)


def test_best_response_table_earns_its_value(kuhn):
    rng = random.Random(1)
    for _ in range(20):
        table = random_table(kuhn, rng)
        for player in range(2):
            value, response = best_response(kuhn, table, player)
            assert set(response) == {d.observation for d in kuhn.decisions if d.player == player}
            assert values(kuhn, {**table, **response})[player] == pytest.approx(value, abs=1e-12)


def test_best_response_beats_every_pure_policy(kuhn):
    """All 64 pure policies of a player, one by one: the best of them is the best response."""
    table = random_table(kuhn, random.Random(2))
    for player in range(2):
        mine = [d for d in kuhn.decisions if d.player == player]
        pure = (
            {d.observation: {move: 1.0} for d, move in zip(mine, choice, strict=True)}
            for choice in itertools.product(*(d.moves for d in mine))
        )
        best = max(values(kuhn, {**table, **policy})[player] for policy in pure)
        assert best_response(kuhn, table, player)[0] == pytest.approx(best, abs=1e-12)


def fill(policy, table, state, ours):
    """Copy a table into an OpenSpiel policy by playing its game beside ours; pass is 0, bet is 1."""
    if state.is_terminal():
        assert state.returns() == ours.returns()
        return
    player = ours.current_player()
    assert player == state.current_player()
    row = table[ours.observe(player)]
    names = ("check", "bet") if "check" in row else ("fold", "call")
    policy.policy_for_key(state.information_state_string(player))[:] = [row[name] for name in names]
    for action, name in enumerate(names):
        child = copy.deepcopy(ours)
        child.play(name)
        fill(policy, table, state.child(action), child)


def openspiel_numbers(table):
    """(NashConv, exploitability) of a Kuhn table by OpenSpiel; its cards are 0, 1, 2."""
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability

    game = pyspiel.load_game("kuhn_poker")
    policy = policies.TabularPolicy(game)
    for cards in itertools.permutations(range(3), 2):
        ours, state = KuhnPoker(), game.new_initial_state()
        ours.reset_to(("JQK"[cards[0]] + "JQK"[cards[1]],))
        for card in cards:
            state.apply_action(card)
        fill(policy, table, state, ours)
    return exploitability.nash_conv(game, policy), exploitability.exploitability(game, policy)


def test_kuhn_equals_openspiel(kuhn):
    rng = random.Random(3)
    for _ in range(25):
        table = random_table(kuhn, rng)
        found = nash_conv(kuhn, table)
        theirs = openspiel_numbers(table)
        assert (found.nash_conv, found.exploitability) == pytest.approx(theirs, abs=1e-12)


def test_kuhn_is_fast(kuhn):
    table = uniform(kuhn)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        nash_conv(kuhn, table)
        best = min(best, time.perf_counter() - start)
    assert best < 1e-3


def test_two_rounds_of_kuhn(kuhn):
    """Rounds are independent and chips add up, so the equilibrium is worth -1/18 + 1/18 = 0 and stays one."""
    tree = GameTree.of(KuhnPoker(rounds=2))
    table = {}
    for d in tree.decisions:
        card, *moves = d.observation.rsplit("; ", 1)[-1].split()
        now = d.observation.split()[2].startswith("1/")
        role = d.player if now else 1 - d.player
        p = equilibrium(1 / 6)(role, card, " ".join(moves))
        put, keep = ("bet", "check") if "bet" in d.moves else ("call", "fold")
        table[d.observation] = {put: p, keep: 1 - p}
    found = nash_conv(tree, table)
    assert found.nash_conv == pytest.approx(0, abs=1e-12)
    assert found.values == pytest.approx((0, 0), abs=1e-12)
    # Uniform in both rounds: the adversary gains in each, 11/12 a round.
    assert nash_conv(tree, uniform(tree)).nash_conv == pytest.approx(11 / 6, abs=1e-12)


def test_a_best_response_remembers_what_the_observation_forgets():
    """With memory the coin is named always: 1. A best response keyed by observation alone would get 1/2."""
    tree = GameTree.of(Echo())
    found = nash_conv(tree, uniform(tree))
    assert found.values == (0.5,)
    assert found.best_response_values == (1.0,)
    by_observation = max(
        values(tree, {**uniform(tree), "name it": {move: 1.0}})[0] for move in tree.decisions[-1].moves
    )
    assert by_observation == 0.5
    with pytest.raises(SpiralError, match=r"needs memory.*'name it'"):
        best_response(tree, uniform(tree), 0)


class Fog(Scripted):
    """A random game of two deals and five moves in which observations forget and hide at random."""

    length = 5

    def __init__(self, seed):
        self.seed = seed

    def deals(self):
        return [(0.3, "x"), (0.7, "y")]

    def observe(self, player):
        shown = random.Random(f"{self.seed} {self.deal} {self.history} sees").choice("uvw")
        return f"p{player} {len(self.history)} {shown}"

    def returns(self):
        rng = random.Random(f"{self.seed} {self.deal} {self.history} gets")
        return [rng.uniform(-1, 1), rng.uniform(-1, 1)]


def expected_alone(tree, table, player, choose):
    """Player's return by walking outcomes, its moves made by `choose(past, observation)`; None makes none."""
    total = 0.0
    chances = [chance for chance, _ in tree.roots]
    for outcome in outcomes(tree, uniform(tree)):
        weight, past = chances[outcome.deal], ()
        for mover, observation, move in outcome.moves:
            if mover == player:
                weight *= choose(past, observation) == move
                past = (*past, observation, move)
            else:
                weight *= table[observation][move]
        total += weight * outcome.returns[player]
    return total


@pytest.mark.parametrize("seed", range(6))
def test_a_best_response_among_all_that_remember(seed):
    """Player 1 moves twice; every pure policy with memory is tried: none is better, and one is as good."""
    tree = GameTree.of(Fog(seed))
    table = random_table(tree, random.Random(seed))
    value = nash_conv(tree, table).best_response_values[1]
    firsts = sorted({o.moves[1][1] for o in outcomes(tree, table)})
    best = -math.inf
    for opening in itertools.product("ab", repeat=len(firsts)):
        first = dict(zip(firsts, opening, strict=True))
        # Given the first moves, what is best later separates by (past, observation): try each alone.
        later = sorted({((o.moves[1][1], o.moves[1][2]), o.moves[3][1]) for o in outcomes(tree, table)})
        policy = {}
        for situation in later:
            scores = {}
            for move in "ab":

                def only(past, seen, move=move, situation=situation, first=first):
                    if not past:
                        return first[seen]
                    return move if (past, seen) == situation else None

                scores[move] = expected_alone(tree, table, 1, only)
            policy[situation] = max(scores, key=scores.get)
        total = expected_alone(tree, table, 1, lambda past, seen, f=first, p=policy: p[past, seen] if past else f[seen])
        best = max(best, total)
    assert value == pytest.approx(best, abs=1e-12)


def test_a_best_response_can_tell_apart_by_its_own_moves():
    """Player 0's second observation forgets its first move; the opponent reacts to that move."""

    class Signal(Scripted):
        length = 3

        def observe(self, player):
            return f"p{player} {len(self.history)} {self.history[0] if player else ''}".strip()

        def returns(self):
            won = self.history[0] == self.history[2] and self.history[1] == "a"
            return [float(won), -float(won)]

    tree = GameTree.of(Signal())
    # The opponent answers a to a, and b to b: the response must be a, then a again.
    table = {"p0 0": {"a": 0.5, "b": 0.5}, "p0 2": {"a": 0.5, "b": 0.5}}
    table |= {"p1 1 a": {"a": 1.0}, "p1 1 b": {"b": 1.0}}
    value, response = best_response(tree, table, 0)
    assert value == 1.0
    # In the state of having said b the choice differs or ties, but play never comes there: a table exists.
    assert values(tree, {**table, **response})[0] == 1.0


def test_three_players():
    """By hand. Uniform: alone with 1/4 whatever one says, 2/4 - 2 * 1/4 = 0; so no deviation helps.
    All a: 0 each, and any one deviator is alone and gets 2, so NashConv 6."""
    tree = GameTree.of(Split())
    assert len(tree.decisions) == 3
    even = nash_conv(tree, uniform(tree))
    assert even.values == pytest.approx((0, 0, 0), abs=1e-12)
    assert even.nash_conv == pytest.approx(0, abs=1e-12)
    same = nash_conv(tree, {f"p{player}": {"a": 1.0, "b": 0.0} for player in range(3)})
    assert same.best_response_values == (2.0, 2.0, 2.0)
    assert same.nash_conv == 6.0
    assert same.exploitability == 2.0


def test_players_may_share_an_observation_and_its_row():
    """Matching pennies with one text for both: two decisions, one row; player 1 wins where they match."""

    class Pennies(Scripted):
        def observe(self, player):
            return "choose"

        def returns(self):
            won = 1.0 if self.history[0] != self.history[1] else -1.0
            return [won, -won]

    tree = GameTree.of(Pennies())
    assert [(d.observation, d.player) for d in tree.decisions] == [("choose", 0), ("choose", 1)]
    assert nash_conv(tree, uniform(tree)).nash_conv == 0
    assert nash_conv(tree, {"choose": {"a": 1.0}}).best_response_values == (1.0, 1.0)


def test_tic_tac_toe_is_folded(tic_tac_toe):
    """5,478 boards: 4,520 decisions and 958 ends, of which three kinds of returns remain."""
    assert len(tic_tac_toe.decisions) == 4520
    assert len(tic_tac_toe.nodes) == 4523


def test_tic_tac_toe_uniform(tic_tac_toe):
    """1.9197 is OpenSpiel's NashConv of the uniform policy; X wins .585, O .288 of random games."""
    found = nash_conv(tic_tac_toe, uniform(tic_tac_toe))
    assert found.nash_conv == pytest.approx(1.9197, abs=5e-5)
    assert found.values[0] == pytest.approx(0.2968, abs=5e-5)
    assert found.values[1] == -found.values[0]


def test_tic_tac_toe_perfect_play(tic_tac_toe):
    """Minimax over the nodes: its policy is worth 0 and loses nothing."""
    worth, table = {}, {}
    for node in range(len(tic_tac_toe.nodes)):  # children come first
        decision, _, children, returns = tic_tac_toe.nodes[node]
        if decision < 0:
            worth[node] = returns
            continue
        d = tic_tac_toe.decisions[decision]
        best = max(children, key=lambda child, p=d.player: worth[child][p])
        worth[node] = worth[best]
        table[d.observation] = {d.moves[children.index(best)]: 1.0}
    found = nash_conv(tic_tac_toe, table)
    assert found.values == (0.0, 0.0)
    assert found.nash_conv == 0.0


@pytest.mark.parametrize("opening", ["021", "04", "0213"])
def test_folding_changes_nothing(opening):
    """The rest of a tic-tac-toe game, as a graph and as a tree that is not told of perfect information."""

    class Late(TicTacToe):
        def reset_to(self, deal):
            super().reset_to(deal)
            for square in opening:
                self.play(square)

    class Unfolded(Late):
        perfect_information = False

    graph, tree = GameTree.of(Late()), GameTree.of(Unfolded())
    assert len(tree.nodes) > len(graph.nodes)
    rng = random.Random(opening)
    for _ in range(3):
        table = random_table(graph, rng)
        ours, theirs = nash_conv(graph, table), nash_conv(tree, table)
        assert ours.values == pytest.approx(theirs.values, abs=1e-12)
        assert ours.best_response_values == pytest.approx(theirs.best_response_values, abs=1e-12)
        for player in range(2):
            value, response = best_response(graph, table, player)
            assert values(graph, {**table, **response})[player] == pytest.approx(value, abs=1e-12)


class Ko(Scripted):
    """Declares perfect information and shows how often each letter was said, not their order: after two a's and a b,
    who said a, b, a ends the match with a return of its own, or may not say b, or must go on longer."""

    length = 4
    perfect_information = True

    def __init__(self, what):
        self.what = what

    def odd(self):
        return self.history[:3] == ("a", "b", "a")

    def observe(self, player):
        return f"p{player} {''.join(sorted(self.history))}"

    def legal_moves(self):
        return ["a"] if self.what == "moves" and self.odd() else ["a", "b"]

    def current_player(self):
        if self.what == "end" and self.odd():
            return None
        return super().current_player()

    def returns(self):
        return [1.0, -1.0] if self.what == "returns" and self.odd() else [0.0, 0.0]


@pytest.mark.parametrize("what", ["moves", "returns", "end"])
def test_histories_that_show_the_same_text_and_go_on_differently_are_not_folded(what):
    """A superko rule in four moves: legal moves, returns and the end of what follows are compared, and refused."""
    with pytest.raises(SpiralError, match="Ko declares perfect_information.*let the observation tell"):
        GameTree.of(Ko(what))
    GameTree.of(Ko("nothing"))


def test_a_long_unfolding_says_how_far_it_is(caplog, monkeypatch):
    """Kuhn has 54 nodes; by default it is told every 50,000."""
    monkeypatch.setattr(game_tree, "TELL_EVERY", 20)
    GameTree.of(KuhnPoker(), limit=100)
    assert caplog.messages == [f"unfolding KuhnPoker: {n} nodes, of 100 at most" for n in (20, 40)]


def test_the_game_is_left_alone():
    game = KuhnPoker()
    game.reset_to(("KJ",))
    game.play("bet")
    GameTree.of(game)
    assert game.observe(1) == "kuhn p1 J bet"


def broken(**members):
    return type("Broken", (Scripted,), members)()


@pytest.mark.parametrize(
    ("game", "message"),
    [
        (KuhnPoker, r"takes a game, and KuhnPoker is a class; give KuhnPoker\(\)"),
        (type("Chat", (), {"num_players": 2, "rules": ""})(), "Chat, which lists no deals.*playing matches"),
        (broken(deals=lambda self: [(0.5, "")]), r"add up to 0\.5"),
        (broken(deals=lambda self: []), "add up to 0"),
        (broken(legal_moves=lambda self: None), "lists no legal moves"),
        (broken(legal_moves=lambda self: ["a", "b"][len(self.history) :], observe=lambda s, p: "x"), "hides"),
        (broken(returns=lambda self: [0.0]), "1 returns for 2 players"),
        (broken(current_player=lambda self: 0), "too long to unfold"),
        (
            broken(current_player=lambda self: 0, observe=lambda s, p: "x", perfect_information=True),
            "come back",
        ),
    ],
)
def test_what_cannot_be_enumerated_is_refused(game, message):
    with pytest.raises(SpiralError, match=message) as caught:
        GameTree.of(game)
    assert "\n" not in str(caught.value)


def test_a_move_that_is_listed_and_refused():
    def play(self, move):
        raise IllegalMove("not today")

    with pytest.raises(SpiralError, match=r"Broken lists 'a' as legal and then refuses it \(not today\)"):
        GameTree.of(broken(play=play))


def test_the_limit_on_nodes():
    with pytest.raises(SpiralError, match="more than 20 nodes; raise the limit"):
        GameTree.of(KuhnPoker(), limit=20)
    GameTree.of(KuhnPoker(), limit=54)  # 6 deals, 4 decisions and 5 ends each


def test_a_table_of_another_game_is_refused(kuhn):
    """A row that no decision shows is a misspelt observation, or a table of another game."""
    for ask in (values, nash_conv, lambda *a: best_response(*a, 0), lambda *a: list(outcomes(*a))):
        with pytest.raises(SpiralError, match="a row for 'kuhn p0 A', and 0 more, which no decision"):
            ask(kuhn, {**uniform(kuhn), "kuhn p0 A": {"bet": 1.0}})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "no row for 'kuhn p0 J'"),
        ({"bet": 0.5, "check": 0.4}, "renormalise"),
        ({"bet": 1.5, "check": -0.5}, "renormalise"),
        ({"bet": math.nan, "check": 1.0}, "renormalise"),
        ({"Bet": 1.0}, "renormalise"),
    ],
)
def test_bad_tables_are_refused(kuhn, row, message):
    table = uniform(kuhn)
    if row is None:
        del table["kuhn p0 J"]
    else:
        table["kuhn p0 J"] = row
    for ask in (values, nash_conv, lambda *a: best_response(*a, 0), lambda *a: list(outcomes(*a))):
        with pytest.raises(SpiralError, match=message):
            ask(kuhn, table)
