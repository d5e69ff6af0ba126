"""Group-relative policy optimisation (GRPO): the return against the mean of its group, the games of one deal."""

import math
from collections.abc import Sequence

from spiral import SpiralError, Trajectory


class Grpo:
    """GRPO: return minus the mean of its group (same game, deal, player), over the group's deviation.

    std=True is as published (Shao et al. 2024, "DeepSeekMath"): divided by (the group's population standard
    deviation + eps). It is biased, and not only in length: it weighs a deal where much is at stake like one
    where little is, so it climbs something else than the expected return. std=False (Liu et al. 2025,
    "Dr. GRPO") has the true gradient's direction and 1 - 1/n of its length in groups of n, because a return
    is in its own group's mean; `rloo` repairs that.

    `eps` is in units of the return; it keeps a group of nearly equal returns from being blown up.
    """

    min_group_size = 2

    def __init__(self, std: bool = True, eps: float = 1e-4) -> None:
        if not eps > 0:
            raise SpiralError(f"grpo was given eps={eps}; give a number above 0")
        self.std = std
        self.eps = eps

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i. Raises SpiralError for a group of one."""
        credit = [0.0] * len(trajectories)
        for members in groups("grpo", trajectories):
            returns = [trajectories[i].reward for i in members]
            mean = math.fsum(returns) / len(returns)
            scale = 1.0
            if self.std:
                scale = math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / len(returns)) + self.eps
            for i in members:
                credit[i] = (trajectories[i].reward - mean) / scale
        return [[advantage] * len(t.turns) for t, advantage in zip(trajectories, credit, strict=True)]


def groups(estimator: str, trajectories: Sequence[Trajectory]) -> list[list[int]]:
    """Indices of the trajectories of one game, deal and player, two or more a group, or SpiralError."""
    by_group: dict[tuple[str, int, int], list[int]] = {}
    for i, t in enumerate(trajectories):
        by_group.setdefault((t.game, t.deal, t.player), []).append(i)
    for (game, deal, player), members in by_group.items():
        if len(members) < 2:
            raise SpiralError(
                f"{estimator} compares games of the same deal, and the learner was player {player} of {game} only once "
                f"in deal {deal}; set rollout.group_size to 2 or more, and choose opponents that make the learner the "
                "same player in all games of a deal"
            )
    return list(by_group.values())
