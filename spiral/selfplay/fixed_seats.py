"""The same game and the same policies in every match, for evaluation and tournaments."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spiral.api.policies import PoolView
from spiral.api.records import PolicyId


class FixedSeats:
    """Both the curriculum and the opponent sampler of `Rollouts` that play one line-up."""

    def __init__(self, game: str, policies: Sequence[PolicyId]) -> None:
        """`policies`: one a player."""
        self._game, self._policies = game, list(policies)

    def choose(self, rng: random.Random) -> str:
        return self._game

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        return self._policies
