"""Draws that samplers share: which player the learner is, and which policies the other players are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from spiral import PolicyId, PoolView


def around_learner(
    num_players: int, pool: PoolView, rng: random.Random, draw: Callable[[], PolicyId]
) -> list[PolicyId]:
    """The learner as a random player, each equally likely, and `draw()` for every other."""
    own = rng.randrange(num_players)
    return [pool.learner if player == own else draw() for player in range(num_players)]


def weighted(policies: Sequence[PolicyId], weights: Sequence[float], rng: random.Random) -> PolicyId:
    """One of `policies` with a chance in proportion to its weight; each alike if all weights are 0."""
    # All 0 is not an error: a learner that always wins gives every opponent the PFSP weight 0.
    return rng.choices(policies, weights)[0] if sum(weights) > 0 else rng.choice(policies)
