"""Self-play proper: the live learner sits at every chair."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from spiral import LEARNER, PolicyId

if TYPE_CHECKING:
    from spiral.policies.pool import Pool


class Mirror:
    """Seats the learner everywhere; every trajectory of every game is trained on."""

    def seat(self, game: str, num_players: int, pool: Pool, rng: random.Random) -> list[PolicyId]:
        return [LEARNER] * num_players
