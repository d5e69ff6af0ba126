"""An advantage estimator: the return against the batch's mean for the same game and player."""

import math
from collections.abc import Sequence

from spiral import Trajectory


class MeanBaseline:
    """The return minus the mean return of its (game, player) in this batch."""

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        returns: dict[tuple[str, int], list[float]] = {}
        for t in trajectories:
            returns.setdefault((t.game, t.player), []).append(t.reward)
        means = {role: math.fsum(amounts) / len(amounts) for role, amounts in returns.items()}
        return [[t.reward - means[t.game, t.player]] * len(t.turns) for t in trajectories]
