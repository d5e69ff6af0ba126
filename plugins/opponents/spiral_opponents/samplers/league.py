"""An opponent sampler with the roles of a league."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from spiral import LEARNER, PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.rated import WEIGHTINGS
from spiral_opponents.samplers.seating import around_learner, weighted

Role = Literal["main", "main_exploiter", "league_exploiter"]

FORGOTTEN = 0.3
"""A snapshot that the learner scores less against has been forgotten."""
BEATEN = 0.2
"""A main exploiter that scores less than this against the main policy learns little from it."""


class League:
    """Opponents of a league's roles (Vinyals et al., Nature 575, 2019, Methods), for every policy in training.

    `main`: 35% against itself, 50% PFSP over all snapshots and members (squared), 15% PFSP over what now beats it: its
    own snapshots and those of the exploiters of the main policy (over all if there are none). `main_exploiter`: against
    the main policy as it is, which is trained on these games too; while it scores less than 20% there, PFSP over its
    snapshots (variance). `league_exploiter`: PFSP over all.

    `roles`: by the name in `learners`, those that are no main policy. `role`: of the config's main policy, which in a
    run of its own may be an exploiter: its target is then the newest of the pool's members, or of its snapshots. That
    exploiters go back to their first weights is `reset_every` of their entry in `learners`.
    """

    needs_pool = True

    def __init__(self, role: Role = "main", roles: Mapping[str, Role] | None = None) -> None:
        self.roles: dict[str, Role] = {**(roles or {}), LEARNER: role}
        if wrong := [one for one in self.roles.values() if one not in get_args(Role)]:
            raise SpiralError(f"league got the role {wrong[0]!r}; it is one of {', '.join(get_args(Role))}.")

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        role = self._by_policy(pool).get(pool.learner, "main")
        if role == "main_exploiter":
            return self._main_exploiter(game, num_players, pool, rng)
        opponents = pool.opponents(game)
        if not opponents:
            return [pool.learner] * num_players
        if role == "league_exploiter":
            return _pfsp(game, num_players, pool, opponents, "squared", rng)
        return self._main(game, num_players, pool, opponents, rng)

    def _by_policy(self, pool: PoolView) -> dict[PolicyId, Role]:
        """The roles of policies in training. Raises SpiralError for one that is not."""
        found = {}
        for name, role in self.roles.items():
            policy = pool.named(name)
            if policy not in pool.learners:
                raise SpiralError(
                    f"league has a role for '{name}', which is none of the policies in training "
                    f"({', '.join(pool.learners)}); add it to learners"
                )
            found[policy] = role
        return found

    def _main(
        self, game: str, num_players: int, pool: PoolView, opponents: list[PolicyId], rng: random.Random
    ) -> Sequence[PolicyId]:
        # One draw for all three shares: itself below 0.35, what it has forgotten from 0.85 on, PFSP between.
        share = rng.random()
        if share < 0.35:
            return [pool.learner] * num_players
        exploiters = [one for one, role in self._by_policy(pool).items() if role == "main_exploiter"]
        past = [policy for one in (pool.learner, *exploiters) for policy in pool.snapshots_of(one)]
        forgotten = [policy for policy in past if pool.results.score(game, policy) < FORGOTTEN]
        candidates = forgotten if share >= 0.85 and forgotten else opponents
        return _pfsp(game, num_players, pool, candidates, "squared", rng)

    def _main_exploiter(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        if pool.learner != LEARNER:
            target, easier = LEARNER, pool.snapshots_of(LEARNER)
        elif known := pool.members(game) or pool.snapshots:
            # Without snapshots no easier opponent is known.
            target, easier = known[-1], pool.opponents(game) if pool.snapshots else []
        else:
            return [pool.learner] * num_players
        # A target that always wins teaches nothing: until it can be beaten now and then, opponents of the learner's own
        # strength are a better curriculum.
        if pool.results.score(game, target) >= BEATEN or not easier:
            return around_learner(num_players, pool, rng, lambda: target)
        return _pfsp(game, num_players, pool, easier, "variance", rng)


def _pfsp(
    game: str, num_players: int, pool: PoolView, opponents: list[PolicyId], weighting: str, rng: random.Random
) -> Sequence[PolicyId]:
    weights = [WEIGHTINGS[weighting](pool.results.score(game, policy)) for policy in opponents]
    return around_learner(num_players, pool, rng, lambda: weighted(opponents, weights, rng))
