"""The kit for bots, samplers and estimators: good ones pass, and each deliberately broken one is caught."""

import itertools
import random

import pytest

from spiral import LEARNER, IllegalMove, SpiralError
from spiral.plugins.registry import Plugins
from spiral.testing import check_bot, check_estimator, check_sampler

PLUGINS = Plugins.installed()


def caught(found, *words):
    """Whether one sentence has all the words."""
    assert any(all(word in sentence for word in words) for sentence in found), found or "nothing was found"


# Bots. The game: two of four cards are dealt, and each player says low or high once.


class Cards:
    num_players = 2
    rules = ""

    def deals(self):
        return [(1 / 12, deal) for deal in itertools.permutations(range(4), 2)]

    def reset(self, rng):
        self.reset_to(tuple(rng.sample(range(4), 2)))

    def reset_to(self, deal):
        self.deal, self.said = deal, []

    def current_player(self):
        return None if len(self.said) == 2 else len(self.said)

    def observe(self, player):
        return f"p{player} {self.deal[player]} {self.said}"

    def legal_moves(self):
        return ["low", "high"] if len(self.said) < 2 else []

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("say low or high")
        self.said.append(move)

    def returns(self):
        return [0.0, 0.0]


class Redrawn(Cards):
    """No listed deals: what is hidden is known from `resample` alone."""

    deals = None

    def resample(self, player, rng):
        mine = self.deal[player]
        other = rng.choice([card for card in range(4) if card != mine])
        self.deal = (mine, other) if player == 0 else (other, mine)


class Honest:
    def choose(self, game, player, rng):
        return "high" if " 3 " in game.observe(player) else rng.choice(game.legal_moves())


class Cheat:
    def choose(self, game, player, rng):
        return "high" if game.deal[player] > game.deal[1 - player] else "low"


class Mumbler:
    def choose(self, game, player, rng):
        return "mumble"


class Number:
    def choose(self, game, player, rng):
        return 1


class Careless:
    def choose(self, game, player, rng):
        return random.choice(game.legal_moves())


class Moody:
    num_calls = 0

    def choose(self, game, player, rng):
        self.num_calls += 1
        return game.legal_moves()[self.num_calls % 2]


class Grabber:
    def choose(self, game, player, rng):
        game.deal = game.deal[::-1]
        return "low"


class Crasher:
    def choose(self, game, player, rng):
        raise KeyError("strategy")


class Quitter:
    def choose(self, game, player, rng):
        if game.said:
            raise SpiralError("I only know the opening.")
        return "low"


class Picky:
    def choose(self, game, player, rng):
        raise SpiralError("I play chess only.")


@pytest.mark.parametrize("game", [Cards, Redrawn])
def test_a_good_bot_passes(game):
    assert check_bot(Honest, {"cards": game}) == []


@pytest.mark.parametrize(
    ("bot", "words"),
    [
        (Cheat, ["cards: choose reads what observe(", "hides"]),
        (Mumbler, ["cards: choose gave the illegal move 'mumble' (say low or high); legal were"]),
        (Number, ["choose gave 1, not a str"]),
        (Careless, ["for one position and one state of rng", "draw from rng alone"]),
        (Moody, ["remember nothing between calls"]),
        (Grabber, ["choose changes the game"]),
        (Crasher, ["choose raised KeyError: 'strategy'"]),
        (Quitter, ["choose raised SpiralError: I only know the opening."]),
        (Picky, ["plays none of the games tried", "I play chess only."]),
    ],
)
def test_a_broken_bot_is_caught(bot, words):
    for game in (Cards, Redrawn):
        caught(check_bot(bot, {"cards": game}), *words)


def test_a_bot_may_refuse_a_game_but_not_all():
    class Loyal(Honest):
        def choose(self, game, player, rng):
            if isinstance(game, Redrawn):
                raise SpiralError("not this one")
            return super().choose(game, player, rng)

    assert check_bot(Loyal, {"cards": Cards, "other": Redrawn}) == []
    caught(check_bot(Loyal, {"other": Redrawn}), "other (not this one)")


# Opponent samplers.


class Even:
    """The learner at a random chair, the bot random at the others; harder opponents as it wins: `state`."""

    def __init__(self):
        self.state = {"wins": 0}

    def seat(self, game, num_players, pool, rng):
        chair = rng.randrange(num_players)
        share = min(0.9, self.state["wins"] / 100)
        bot = LEARNER if rng.random() < share else pool.bot("random")
        return [LEARNER if player == chair else bot for player in range(num_players)]

    def record(self, episode):
        self.state = {"wins": self.state["wins"] + (episode.returns[0] > 0)}


class Duellist(Even):
    def seat(self, game, num_players, pool, rng):
        if num_players != 2:
            raise SpiralError("two only")
        return super().seat(game, num_players, pool, rng)


class NoTable(Even):
    def seat(self, game, num_players, pool, rng):
        raise SpiralError("no table today")


class TooFew(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER]


class Ghost(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER, "bot:ghost"][:num_players] + [LEARNER] * (num_players - 2)


class Spectator(Even):
    def seat(self, game, num_players, pool, rng):
        return [pool.bot("random")] * num_players


class GlobalDice(Even):
    def seat(self, game, num_players, pool, rng):
        return super().seat(game, num_players, pool, random)


class AlwaysFirst(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER] + [pool.bot("random")] * (num_players - 1)


class TwoOnly(Even):
    def seat(self, game, num_players, pool, rng):
        return [LEARNER, pool.bot("random")][:: rng.choice((1, -1))] if num_players < 4 else [][1]


class Forgetful(Duellist):
    """What it remembers is not in its `state`."""

    def __init__(self):
        super().__init__()
        self.wins = 0

    def seat(self, game, num_players, pool, rng):
        self.state = {"wins": 90 if self.wins > 20 else 0}
        seats = super().seat(game, num_players, pool, rng)
        self.state = {"wins": 0}
        return seats

    def record(self, episode):
        self.wins += 1


class TupleKeys(Even):
    def __init__(self):
        self.state = {"wins": 0, (0, 1): 0}

    def record(self, episode):
        pass


class NumberKeys(TupleKeys):
    def __init__(self):
        self.state = {"wins": 0, "by_chair": {0: 1}}


@pytest.mark.parametrize("sampler", [Even, Duellist])
def test_good_samplers_pass(sampler):
    assert check_sampler(sampler, PLUGINS) == []


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (NoTable, ["seat refused a table for 2: no table today"]),
        (TooFew, ["seat gave ['learner'] for 2 players"]),
        (Ghost, ["'bot:ghost', which is not in the pool"]),
        (Spectator, ["without 'learner'"]),
        (GlobalDice, ["for one state of rng and one past"]),
        (AlwaysFirst, ["the chairs are not balanced", "only one side"]),
        (TwoOnly, ["for 1 players", "one policy a chair"]),
        (Forgetful, ["keep all that it remembers in `state`"]),
        (TupleKeys, ["which JSON cannot hold"]),
        (NumberKeys, ["comes back from JSON as", "text keys"]),
    ],
)
def test_a_broken_sampler_is_caught(sampler, words):
    caught(check_sampler(sampler, PLUGINS), *words)


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


class RunningAndSaysSo(Running):
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


@pytest.mark.parametrize("estimator", [Plain, RunningAndSaysSo, SavesAll])
def test_good_estimators_pass(estimator):
    assert check_estimator(estimator) == []


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (OneNumber, ["out[0] is", "one number a turn"]),
        (Short, ["give one list a trajectory"]),
        (AtLeastOne, ["for a trajectory of 0 turns", "none for a trajectory without turns"]),
        (NotFinite, ["must be finite floats"]),
        (Divides, ["raised ZeroDivisionError"]),
        (Sorts, ["changed the list of trajectories"]),
        (Noisy, ["two new estimators gave different advantages"]),
        (Running, ["depend on the order", "declare order_dependent = True"]),
        (Remembers, ["has no `state`", "as if it had not been stopped"]),
        (SavesHalf, ["its state restored, gave other advantages"]),
        (SavesNan, ["which JSON cannot hold"]),
    ],
)
def test_a_broken_estimator_is_caught(estimator, words):
    caught(check_estimator(estimator), *words)
