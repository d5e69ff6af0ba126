"""Self-play proper: the live learner sits at every chair."""

from __future__ import annotations

import random

from spiral import LEARNER, PolicyId, PoolView


class Mirror:
    """Seats the learner everywhere; every trajectory of every game is trained on."""

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> list[PolicyId]:
        return [LEARNER] * num_players
