"""A mixture in fixed shares: so much against itself, so much against its past, so much against each member."""

from __future__ import annotations

import random

from spiral import LEARNER, PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.seating import around_learner

GROUPS = ("learner", "snapshots", "members")


class Mixture:
    """Shares by `weights`: of `learner` (mirror self-play), `snapshots`, `members` (each alike) or a single member.

    A single member is named as in pool.members. A share whose group is empty, or whose member does not play the game,
    goes to the others in proportion; with nobody left the learner meets itself. All chairs but the learner's are drawn
    from one group.
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
        return any(weight > 0 for name, weight in self.weights.items() if name != LEARNER)

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> list[PolicyId]:
        shares = [(self._group(name, game, pool), weight) for name, weight in self.weights.items()]
        open_ = [(group, weight) for group, weight in shares if group and weight > 0]
        if not open_:
            return [LEARNER] * num_players
        group = rng.choices([g for g, _ in open_], [w for _, w in open_])[0]
        if group == [LEARNER]:
            return [LEARNER] * num_players
        return around_learner(num_players, rng, lambda: rng.choice(group))

    def _group(self, name: str, game: str, pool: PoolView) -> list[PolicyId]:
        members = pool.members(game)
        if name in GROUPS:
            return {"learner": [LEARNER], "snapshots": pool.snapshots, "members": members}[name]
        named = pool.named(name)
        if named is None:
            raise SpiralError(
                f"mixture got a weight for '{name}', which is none of {', '.join(GROUPS)} and no member of the pool; "
                "write it as in pool.members"
            )
        return [policy for policy in members if policy == named]
