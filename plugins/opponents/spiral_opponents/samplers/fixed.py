"""An opponent sampler with one fixed bot: the control that self-play is compared with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from spiral import PolicyId, PoolView


class Fixed:
    """Seats the learner as one player, each equally likely, and the bot `opponent` with `args` as all others."""

    uses_members = False

    def __init__(self, opponent: str = "random", args: dict[str, Any] | None = None) -> None:
        self.opponent = opponent
        self.args = dict(args or {})

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        own = rng.randrange(num_players)
        # The pool makes the bot on the first call and returns the same id from then on.
        bot = pool.bot(self.opponent, **self.args)
        return [pool.learner if player == own else bot for player in range(num_players)]
