"""The checks of bots, samplers and estimators: good ones pass, and each deliberately wrong one is reported."""

import itertools
import random

import pytest

from spiral import LEARNER, IllegalMove, SpiralError
from spiral.plugins.registry import Plugins
from spiral.testing import check_bot, check_estimator, check_sampler

PLUGINS = Plugins.installed()


def assert_reported(violations, *words):
    """One of the violations has all the words."""
    assert any(all(word in text for word in words) for text in violations), violations or "no violation was reported"


# Bots. The game: two of four cards are dealt, and each player says low or high once.


class Cards:
    num_players = 2
    rules = ""

    def deals(self):
        return [(1 / 12, deal) for deal in itertools.permutations(range(4), 2)]

    def reset(self, rng):
        self.reset_to(tuple(rng.sample(range(4), 2)))

    def reset_to(self, deal):
        self.deal, self.moves = deal, []

    def current_player(self):
        return None if len(self.moves) == 2 else len(self.moves)

    def observe(self, player):
        return f"p{player} {self.deal[player]} {self.moves}"

    def legal_moves(self):
        return ["low", "high"] if len(self.moves) < 2 else []

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("say low or high")
        self.moves.append(move)

    def returns(self):
        return [0.0, 0.0]


class Redrawn(Cards):
    """No listed deals: what is hidden is known from `resample` alone."""

    deals = None

    def resample(self, player, rng):
        own = self.deal[player]
        other = rng.choice([card for card in range(4) if card != own])
        self.deal = (own, other) if player == 0 else (other, own)


class ReadsObservation:
    def choose(self, game, player, rng):
        return "high" if " 3 " in game.observe(player) else rng.choice(game.legal_moves())


class ReadsDeal:
    def choose(self, game, player, rng):
        return "high" if game.deal[player] > game.deal[1 - player] else "low"


class Illegal:
    def choose(self, game, player, rng):
        return "mumble"


class Number:
    def choose(self, game, player, rng):
        return 1


class GlobalGenerator:
    def choose(self, game, player, rng):
        return random.choice(game.legal_moves())


class CountsCalls:
    num_calls = 0

    def choose(self, game, player, rng):
        self.num_calls += 1
        return game.legal_moves()[self.num_calls % 2]


class ChangesGame:
    def choose(self, game, player, rng):
        game.deal = game.deal[::-1]
        return "low"


class Raises:
    def choose(self, game, player, rng):
        raise KeyError("strategy")


class RefusesLate:
    def choose(self, game, player, rng):
        if game.moves:
            raise SpiralError("I only know the opening.")
        return "low"


class RefusesAll:
    def choose(self, game, player, rng):
        raise SpiralError("I play chess only.")


@pytest.mark.parametrize("game", [Cards, Redrawn])
def test_a_good_bot_passes(game):
    assert check_bot(ReadsObservation, {"cards": game}) == []


@pytest.mark.parametrize(
    ("bot", "words"),
    [
        (ReadsDeal, ["cards: choose reads what observe(", "hides", "decide from observe("]),
        (Illegal, ["cards: choose returned the illegal move 'mumble' (say low or high); return one of"]),
        (Number, ["choose returned 1; return the move as a str"]),
        (GlobalGenerator, ["for one position and one state of rng", "draw from rng alone"]),
        (CountsCalls, ["remember nothing between calls"]),
        (ChangesGame, ["choose changes the game", "work on a copy.deepcopy"]),
        (Raises, ["choose raised KeyError: 'strategy'"]),
        (RefusesLate, ["choose raised SpiralError: I only know the opening.", "at the first move of a game"]),
        (RefusesAll, ["plays none of the games tried: cards (I play chess only.)", "`tried_on`"]),
    ],
)
def test_the_violation_of_a_bot_is_reported(bot, words):
    for game in (Cards, Redrawn):
        assert_reported(check_bot(bot, {"cards": game}), *words)


def test_a_bot_may_refuse_a_game_but_not_all():
    class RefusesOne(ReadsObservation):
        def choose(self, game, player, rng):
            if isinstance(game, Redrawn):
                raise SpiralError("not this one")
            return super().choose(game, player, rng)

    assert check_bot(RefusesOne, {"cards": Cards, "other": Redrawn}) == []
    assert_reported(check_bot(RefusesOne, {"other": Redrawn}), "other (not this one)")


# Opponent samplers.


class Even:
    """The learner as a random player, `random` as the others, or the learner as all of them, the more it wins."""

    def __init__(self):
        self.state = {"wins": 0}

    def seat(self, game, num_players, pool, rng):
        learner = rng.randrange(num_players)
        share = min(0.9, self.state["wins"] / 100)
        bot = LEARNER if rng.random() < share else pool.bot("random")
        return [LEARNER if player == learner else bot for player in range(num_players)]

    def record(self, episode):
        self.state = {"wins": self.state["wins"] + (episode.returns[0] > 0)}


class RefusesOthers(Even):
    def seat(self, game, num_players, pool, rng):
        if num_players != 2:
            raise SpiralError("two only")
        return super().seat(game, num_players, pool, rng)


class RefusesTwo(Even):
    def seat(self, game, num_players, pool, rng):
        raise SpiralError("not this game")


class TooFew(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER]


class Unknown(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER, "bot:unknown"][:num_players] + [LEARNER] * (num_players - 2)


class NoLearner(Even):
    def seat(self, game, num_players, pool, rng):
        return [pool.bot("random")] * num_players


class SeatsGlobally(Even):
    def seat(self, game, num_players, pool, rng):
        return super().seat(game, num_players, pool, random)


class AlwaysFirst(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER] + [pool.bot("random")] * (num_players - 1)


class TwoOnly(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER, pool.bot("random")][:: rng.choice((1, -1))] if num_players < 4 else [][1]


class OmitsState(RefusesOthers):
    """What it remembers is not in its `state`."""

    def __init__(self):
        super().__init__()
        self.wins = 0

    def seat(self, game, num_players, pool, rng):
        self.state = {"wins": 90 if self.wins > 20 else 0}
        policies = super().seat(game, num_players, pool, rng)
        self.state = {"wins": 0}
        return policies

    def record(self, episode):
        self.wins += 1


class TupleKeys(Even):
    def __init__(self):
        self.state = {"wins": 0, (0, 1): 0}

    def record(self, episode):
        pass


class NumberKeys(TupleKeys):
    def __init__(self):
        self.state = {"wins": 0, "by_player": {0: 1}}


@pytest.mark.parametrize("sampler", [Even, RefusesOthers])
def test_good_samplers_pass(sampler):
    assert check_sampler(sampler, PLUGINS) == []


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (RefusesTwo, ["seat refused a game of 2 players: not this game"]),
        (TooFew, ["seat returned ['learner'] for 2 players"]),
        (Unknown, ["'bot:unknown', which is not in the pool"]),
        (NoLearner, ["without 'learner'"]),
        (SeatsGlobally, ["for one state of rng and one past"]),
        (AlwaysFirst, ["the players are not balanced", "players 0 to 1 [2000, 0] times", "only one side"]),
        (TwoOnly, ["for 1 players", "one policy a player"]),
        (OmitsState, ["keep all that it remembers in `state`"]),
        (TupleKeys, ["which JSON cannot hold"]),
        (NumberKeys, ["comes back from JSON as", "text keys"]),
    ],
)
def test_the_violation_of_a_sampler_is_reported(sampler, words):
    assert_reported(check_sampler(sampler, PLUGINS), *words)


def test_a_sampler_draws_from_the_installed_bots_by_default():
    """The bot `random` is installed, and an empty registry has none."""
    assert check_sampler(Even) == []
    assert_reported(check_sampler(Even, Plugins()), "seat refused a game of 2 players: no bot named 'random'")


# Advantage estimators.


class Plain:
    def __call__(self, trajectories):
        return [[t.reward] * len(t.turns) for t in trajectories]


class OneNumber(Plain):
    def __call__(self, trajectories):
        return [t.reward for t in trajectories]


class Short(Plain):
    def __call__(self, trajectories):
        return super().__call__(trajectories)[1:]


class AtLeastOne(Plain):
    def __call__(self, trajectories):
        return [[t.reward] * max(1, len(t.turns)) for t in trajectories]


class NotFinite(Plain):
    def __call__(self, trajectories):
        return [[float("nan")] * len(t.turns) for t in trajectories]


class Divides(Plain):
    def __call__(self, trajectories):
        return [[t.reward / len(t.turns)] * len(t.turns) for t in trajectories]


class Sorts(Plain):
    def __call__(self, trajectories):
        trajectories.sort(key=lambda t: t.reward)
        return super().__call__(trajectories)


class Noisy(Plain):
    def __call__(self, trajectories):
        return [[a + random.gauss(0, 1) for a in row] for row in super().__call__(trajectories)]


class Running(Plain):
    """Each return against the one before it."""

    def __call__(self, trajectories):
        before = [0.0, *(t.reward for t in trajectories)]
        return [[t.reward - before[i]] * len(t.turns) for i, t in enumerate(trajectories)]


class RunningDeclared(Running):
    order_dependent = True


class Remembers(Plain):
    def __init__(self):
        self.best = 0.0

    def __call__(self, trajectories):
        before, self.best = self.best, self.best + sum(t.reward**2 for t in trajectories)
        return [[t.reward - before] * len(t.turns) for t in trajectories]


class SavesHalf(Remembers):
    def __init__(self):
        super().__init__()
        self.state = {}


class SavesAll(Remembers):
    @property
    def state(self):
        return {"best": self.best}

    @state.setter
    def state(self, state):
        self.best = state["best"]


class SavesNan(Plain):
    def __init__(self):
        self.state = {"mean": float("nan")}


@pytest.mark.parametrize("estimator", [Plain, RunningDeclared, SavesAll])
def test_good_estimators_pass(estimator):
    assert check_estimator(estimator) == []


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (OneNumber, ["out[0] is", "one number a turn"]),
        (Short, ["return one list a trajectory"]),
        (AtLeastOne, ["for a trajectory of 0 turns", "[] for a trajectory without turns"]),
        (NotFinite, ["return finite floats"]),
        (Divides, ["raised ZeroDivisionError"]),
        (Sorts, ["changed the list of trajectories"]),
        (Noisy, ["two new estimators returned different advantages"]),
        (Running, ["depend on the order", "declare order_dependent = True"]),
        (Remembers, ["has no `state`", "as if it had not been stopped"]),
        (SavesHalf, ["with the restored state returned other advantages"]),
        (SavesNan, ["which JSON cannot hold"]),
    ],
)
def test_the_violation_of_an_estimator_is_reported(estimator, words):
    assert_reported(check_estimator(estimator), *words)
