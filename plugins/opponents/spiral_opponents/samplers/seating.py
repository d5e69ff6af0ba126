"""The seating that samplers share: the learner at one chair, each equally likely, and a draw for each of the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from spiral import LEARNER, PolicyId


def around_learner(num_players: int, rng: random.Random, draw: Callable[[], PolicyId]) -> list[PolicyId]:
    """The learner at a random chair, and `draw()` at every other."""
    chair = rng.randrange(num_players)
    return [LEARNER if player == chair else draw() for player in range(num_players)]


def weighted(policies: Sequence[PolicyId], weights: Sequence[float], rng: random.Random) -> PolicyId:
    """One of `policies` with a chance in proportion to its weight; each alike if all weights are 0."""
    return rng.choices(policies, weights)[0] if sum(weights) > 0 else rng.choice(policies)
