"""The roles of a league, as far as one trained policy allows."""

from __future__ import annotations

import random
from typing import Literal, get_args

from spiral import LEARNER, PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.rated import WEIGHTINGS
from spiral_opponents.samplers.seating import around_learner, weighted

Role = Literal["main", "main_exploiter", "league_exploiter"]

FORGOTTEN = 0.3
"""A past self that the learner scores less against has been forgotten."""


class Exploiter:
    """Seats a league's roles (Vinyals et al., Nature 575, 2019, Methods).

    `main`: 35% against itself, 50% PFSP over all (squared), 15% against past selves that now beat it (PFSP over all if
    there are none). `main_exploiter`: against the newest of the pool's members, or of its snapshots without members;
    while it scores less than 20% there, against any past self by PFSP (variance). `league_exploiter`: PFSP over all.

    Left out, since a run trains one policy: the exploiters do not feed a main agent that trains beside them (train them
    as runs of their own and name their checkpoints in pool.members), and no role is ever reset to its first weights.
    """

    needs_pool = True

    def __init__(self, role: Role = "main") -> None:
        if role not in get_args(Role):
            raise SpiralError(f"exploiter got role={role!r}; it is one of {', '.join(get_args(Role))}.")
        self.role = role

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> list[PolicyId]:
        known = pool.opponents(game)
        if not known:
            return [LEARNER] * num_players
        if self.role == "league_exploiter":
            return self._pfsp(game, num_players, pool, known, "squared", rng)
        return (self._main if self.role == "main" else self._main_exploiter)(game, num_players, pool, known, rng)

    def _main(
        self, game: str, num_players: int, pool: PoolView, known: list[PolicyId], rng: random.Random
    ) -> list[PolicyId]:
        luck = rng.random()
        if luck < 0.35:
            return [LEARNER] * num_players
        forgotten = [past for past in pool.snapshots if pool.results.score(game, past) < FORGOTTEN]
        return self._pfsp(game, num_players, pool, forgotten if luck >= 0.85 and forgotten else known, "squared", rng)

    def _main_exploiter(
        self, game: str, num_players: int, pool: PoolView, known: list[PolicyId], rng: random.Random
    ) -> list[PolicyId]:
        prey = (pool.members(game) or pool.snapshots)[-1]
        if pool.results.score(game, prey) >= 0.2 or not pool.snapshots:
            return around_learner(num_players, rng, lambda: prey)
        return self._pfsp(game, num_players, pool, known, "variance", rng)

    @staticmethod
    def _pfsp(
        game: str, num_players: int, pool: PoolView, known: list[PolicyId], weighting: str, rng: random.Random
    ) -> list[PolicyId]:
        weights = [WEIGHTINGS[weighting](pool.results.score(game, policy)) for policy in known]
        return around_learner(num_players, rng, lambda: weighted(known, weights, rng))
