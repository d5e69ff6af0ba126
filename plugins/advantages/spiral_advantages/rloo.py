"""REINFORCE leave-one-out (RLOO): the return against the mean of the other games of the same deal."""

import math
from collections.abc import Sequence

from spiral import Trajectory
from spiral_advantages.grpo import groups


class Rloo:
    """RLOO: return minus the mean of the others of its group (same game, deal and player); unbiased.

    Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!". A return is not in
    its own baseline, so nothing is shrunk: it is n / (n - 1) times `grpo` with std=False in groups of n.
    """

    min_group_size = 2

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i. Raises SpiralError for a group of one."""
        credit = [0.0] * len(trajectories)
        for members in groups("rloo", trajectories):
            total = math.fsum(trajectories[i].reward for i in members)
            for i in members:
                others = (total - trajectories[i].reward) / (len(members) - 1)
                credit[i] = trajectories[i].reward - others
        return [[advantage] * len(t.turns) for t, advantage in zip(trajectories, credit, strict=True)]
