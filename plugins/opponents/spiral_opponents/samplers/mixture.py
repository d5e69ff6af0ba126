"""An opponent sampler with fixed shares for the learner itself, its snapshots and the pool's members."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spiral import PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.seating import around_learner

GROUPS = ("learner", "snapshots", "members")


class Mixture:
    """Shares by `weights`: of `learner` (mirror self-play), `snapshots`, `members` (each alike) or a single policy.

    A single policy is a member, named as in pool.members, or one of `learners`. A share whose group is empty, or whose
    member does not play the game, goes to the others in proportion; with no group left the learner meets itself. All
    players but the learner are drawn from one group.
    """

    def __init__(self, weights: dict[str, float] | None = None) -> None:
        self.weights = dict(weights or {"learner": 0.5, "snapshots": 0.4, "members": 0.1})
        if (
            any(not isinstance(w, int | float) or not w >= 0 for w in self.weights.values())
            or not sum(self.weights.values()) > 0
        ):
            raise SpiralError(f"mixture got weights={self.weights}; give weights of 0 or more, not all of them 0.")

    @property
    def needs_pool(self) -> bool:
        return any(weight > 0 for name, weight in self.weights.items() if name != "learner")

    @property
    def uses_members(self) -> bool:
        return any(weight > 0 for name, weight in self.weights.items() if name not in ("learner", "snapshots"))

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        shares = [(self._group(name, game, pool), weight) for name, weight in self.weights.items()]
        # Decided anew for each game, since groups fill and empty during a run: an empty one's share goes to the others.
        available = [(group, weight) for group, weight in shares if group and weight > 0]
        if not available:
            return [pool.learner] * num_players
        group = rng.choices([g for g, _ in available], [w for _, w in available])[0]
        if group == [pool.learner]:
            return [pool.learner] * num_players
        return around_learner(num_players, pool, rng, lambda: rng.choice(group))

    def _group(self, name: str, game: str, pool: PoolView) -> list[PolicyId]:
        members = pool.members(game)
        if name in GROUPS:
            return {"learner": [pool.learner], "snapshots": pool.snapshots, "members": members}[name]
        member = pool.named(name)
        if member is None:
            raise SpiralError(
                f"mixture got a weight for '{name}', which is none of {', '.join(GROUPS)} and no member of the pool; "
                "write it as in pool.members"
            )
        return [member] if member in pool.learners else [policy for policy in members if policy == member]
