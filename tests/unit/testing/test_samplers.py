"""The checks of opponent samplers: good ones pass, and each deliberately wrong one is reported."""

import random

import pytest

from spiral import LEARNER, SpiralError
from spiral.plugins.registry import Plugins
from spiral.testing import check_sampler

PLUGINS = Plugins.installed()


def assert_reported(violations, *words):
    """One of the violations has all the words."""
    assert any(all(word in text for word in words) for text in violations), violations or "no violation was reported"


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


class SaysItMeetsNoMember(Even):
    uses_members = False

    def seat(self, game, num_players, pool, rng):
        learner = rng.randrange(num_players)
        return [LEARNER if player == learner else (pool.members(game) or [LEARNER])[0] for player in range(num_players)]


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
        (SaysItMeetsNoMember, ["uses_members is False and seat returned", "which holds a member"]),
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
