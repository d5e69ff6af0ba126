"""One learner against a bot that never changes: the control that self-play is compared with."""

from __future__ import annotations

import random
from typing import Any

from spiral import LEARNER, PolicyId, PoolView


class Fixed:
    """Seats the learner at one chair, each equally likely, and the bot `opponent` with `args` at the rest."""

    def __init__(self, opponent: str = "random", args: dict[str, Any] | None = None) -> None:
        self.opponent = opponent
        self.args = dict(args or {})

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> list[PolicyId]:
        chair = rng.randrange(num_players)
        # The pool makes the bot once and answers with the same id from then on.
        bot = pool.bot(self.opponent, **self.args)
        return [LEARNER if player == chair else bot for player in range(num_players)]
