"""The opponent sampler of pure self-play, registered as `mirror`: the live learner is every player."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spiral import PolicyId, PoolView


class SelfPlay:
    """Seats the learner as every player; every trajectory of every game is trained on."""

    uses_members = False

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        return [pool.learner] * num_players
