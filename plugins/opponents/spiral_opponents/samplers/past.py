"""Opponent samplers that draw from the learner's past versions without regard to results."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spiral import PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.seating import around_learner


class UniformPast:
    """Fictitious self-play: every snapshot alike (Heinrich, Lanctot and Silver 2015), and itself with chance `mirror`.

    The pool's members count as snapshots. While there are neither, the learner meets itself.
    """

    needs_pool = True

    def __init__(self, mirror: float = 0.0) -> None:
        if not 0 <= mirror <= 1:
            raise SpiralError(f"uniform_past got mirror={mirror}; it is a chance, from 0 to 1.")
        self.mirror = mirror

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        opponents = pool.opponents(game)
        if not opponents or rng.random() < self.mirror:
            return [pool.learner] * num_players
        return around_learner(num_players, pool, rng, lambda: rng.choice(opponents))


class LatestK:
    """The `k` newest snapshots, each alike; the learner itself before the first, and with chance `mirror`.

    The pool's members are not met: for them choose another sampler.
    """

    needs_pool = True
    uses_members = False

    def __init__(self, k: int = 1, mirror: float = 0.0) -> None:
        if k < 1 or not 0 <= mirror <= 1:
            raise SpiralError(f"latest_k got k={k} and mirror={mirror}; k is 1 or more, mirror a chance from 0 to 1.")
        self.k, self.mirror = k, mirror

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        newest = pool.snapshots[-self.k :]
        if not newest or rng.random() < self.mirror:
            return [pool.learner] * num_players
        return around_learner(num_players, pool, rng, lambda: rng.choice(newest))
