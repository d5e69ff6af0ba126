"""Who the opponent samplers seat, over many games, with a pool that remembers what it was asked."""

import random
from collections import Counter

import pytest
import spiral_opponents
from spiral_opponents.fixed import Fixed
from spiral_opponents.mirror import Mirror

from spiral import LEARNER


class ScriptedPool:
    """Answers like spiral.pool.Pool, and remembers the bots it was asked for."""

    def __init__(self):
        self.asked = []

    def bot(self, name, **args):
        self.asked.append((name, args))
        return f"bot:{name}"


@pytest.mark.parametrize("num_players", [1, 2, 5])
def test_mirror_seats_the_learner_everywhere(num_players):
    pool = ScriptedPool()
    assert Mirror().seat("g", num_players, pool, random.Random(0)) == [LEARNER] * num_players
    assert pool.asked == []


@pytest.mark.parametrize("num_players", [2, 3])
def test_fixed_seats_one_learner_at_each_chair_equally_often(num_players):
    rng, sampler, chairs = random.Random(0), Fixed(), Counter()
    for _ in range(3000):
        seats = sampler.seat("g", num_players, ScriptedPool(), rng)
        assert sorted(seats) == ["bot:random"] * (num_players - 1) + [LEARNER]
        chairs[seats.index(LEARNER)] += 1
    for chair in range(num_players):
        assert chairs[chair] / 3000 == pytest.approx(1 / num_players, abs=0.05)  # over 5 standard deviations


def test_fixed_asks_the_pool_for_its_bot_with_its_arguments():
    pool = ScriptedPool()
    seats = Fixed("equilibrium", {"alpha": 0.2}).seat("g", 2, pool, random.Random(0))
    assert pool.asked == [("equilibrium", {"alpha": 0.2})]
    assert set(seats) == {LEARNER, "bot:equilibrium"}


def test_fixed_draws_only_from_the_generator_it_is_given():
    def seats(noise):
        random.seed(noise)
        rng = random.Random(4)
        return [Fixed().seat("g", 4, ScriptedPool(), rng) for _ in range(20)]

    assert seats(1) == seats(2)


def test_fixed_keeps_its_own_copy_of_the_arguments():
    args = {"alpha": 0.2}
    sampler = Fixed("equilibrium", args)
    args["alpha"] = 9
    pool = ScriptedPool()
    sampler.seat("g", 2, pool, random.Random(0))
    assert pool.asked == [("equilibrium", {"alpha": 0.2})]


def test_the_plugin_registers_samplers():
    samplers = {}
    spiral_opponents.register_opponents(samplers.__setitem__)
    assert sorted(samplers) == [
        "exploiter", "fixed", "latest_k", "mirror", "mixture", "pfsp", "rating_window", "uniform_past",
    ]  # fmt: skip
