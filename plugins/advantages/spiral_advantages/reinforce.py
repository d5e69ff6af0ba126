"""REINFORCE: the return itself as the advantage, or the return minus the mean of its role in the batch."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from spiral import SpiralError, Trajectory

Baseline = Literal["none", "batch"]


class Reinforce:
    """REINFORCE: the return, or with baseline="batch" the return minus the batch's mean for the same role.

    "none" is unbiased (Williams 1992). "batch" subtracts the mean over the batch's games of the same (game,
    player), its own return included. That shrinks the expected gradient by the factor 1 - 1/n for a role with
    n games in the batch: each role's direction stays, and a role with one game is not trained at all.

    There is no mean over both players: in a zero-sum game against oneself it is 0 by construction, and would
    be "none" under another name.
    """

    def __init__(self, baseline: Baseline = "none") -> None:
        if baseline not in get_args(Baseline):
            choices = " or ".join(get_args(Baseline))
            raise SpiralError(f"reinforce was given baseline={baseline!r}; give {choices}")
        self.baseline = baseline

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i, the same for all turns of a trajectory."""
        if self.baseline == "none":
            return [[t.reward] * len(t.turns) for t in trajectories]
        returns: dict[tuple[str, int], list[float]] = {}
        for t in trajectories:
            returns.setdefault((t.game, t.player), []).append(t.reward)
        means = {role: math.fsum(amounts) / len(amounts) for role, amounts in returns.items()}
        return [[t.reward - means[t.game, t.player]] * len(t.turns) for t in trajectories]
