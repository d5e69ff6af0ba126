"""An opponent sampler with the roles of a league, as far as one trained policy allows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, get_args

from spiral import LEARNER, PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.rated import WEIGHTINGS
from spiral_opponents.samplers.seating import around_learner, weighted

Role = Literal["main", "main_exploiter", "league_exploiter"]

FORGOTTEN = 0.3
"""A snapshot that the learner scores less against has been forgotten."""


class League:
    """Opponents of a league's roles (Vinyals et al., Nature 575, 2019, Methods).

    `main`: 35% against itself, 50% PFSP over all (squared), 15% PFSP over the snapshots that now beat it (over all if
    there are none). `main_exploiter`: against the newest of the pool's members, or of its snapshots without members;
    while it scores less than 20% there, PFSP over all (variance). `league_exploiter`: PFSP over all.

    Left out, since a run trains one policy: the exploiters do not feed a main agent that trains beside them (train them
    as runs of their own and name their checkpoints in pool.members), and no role is ever reset to its first weights.
    """

    needs_pool = True

    def __init__(self, role: Role = "main") -> None:
        if role not in get_args(Role):
            raise SpiralError(f"league got role={role!r}; it is one of {', '.join(get_args(Role))}.")
        self.role = role

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        opponents = pool.opponents(game)
        if not opponents:
            return [LEARNER] * num_players
        if self.role == "league_exploiter":
            return self._pfsp(game, num_players, pool, opponents, "squared", rng)
        return (self._main if self.role == "main" else self._main_exploiter)(game, num_players, pool, opponents, rng)

    def _main(
        self, game: str, num_players: int, pool: PoolView, opponents: list[PolicyId], rng: random.Random
    ) -> Sequence[PolicyId]:
        # One draw for all three shares: itself below 0.35, what it has forgotten from 0.85 on, PFSP between.
        share = rng.random()
        if share < 0.35:
            return [LEARNER] * num_players
        forgotten = [past for past in pool.snapshots if pool.results.score(game, past) < FORGOTTEN]
        candidates = forgotten if share >= 0.85 and forgotten else opponents
        return self._pfsp(game, num_players, pool, candidates, "squared", rng)

    def _main_exploiter(
        self, game: str, num_players: int, pool: PoolView, opponents: list[PolicyId], rng: random.Random
    ) -> Sequence[PolicyId]:
        target = (pool.members(game) or pool.snapshots)[-1]
        # A target that always wins teaches nothing: until it can be beaten now and then, opponents of the learner's own
        # strength are a better curriculum. Without snapshots no easier one is known.
        if pool.results.score(game, target) >= 0.2 or not pool.snapshots:
            return around_learner(num_players, rng, lambda: target)
        return self._pfsp(game, num_players, pool, opponents, "variance", rng)

    @staticmethod
    def _pfsp(
        game: str, num_players: int, pool: PoolView, opponents: list[PolicyId], weighting: str, rng: random.Random
    ) -> Sequence[PolicyId]:
        weights = [WEIGHTINGS[weighting](pool.results.score(game, policy)) for policy in opponents]
        return around_learner(num_players, rng, lambda: weighted(opponents, weights, rng))
