"""Role-conditioned advantage estimation (RAE): the return minus a moving baseline for each role.

A role is (game, player). Liu et al. 2025, "SPIRAL: Self-Play on Zero-Sum Games Incentivizes Reasoning".
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from spiral import SpiralError, Trajectory

Order = Literal["batch", "episode", "paper"]


class Rae:
    """RAE: return minus a moving average of what the same role of the same game returned before.

    `decay` is the weight that the average keeps at each game of a role, from 0 up to but not including 1.
    `order` says how the games of one batch meet the average b, which starts at 0:
    - "batch": every advantage is R - b with the b of before the batch; then, for a role's n returns,
      b <- decay^n b + (1 - decay^n) mean. That is what n single updates give on average over the orders of
      the games, so the order does not matter; unlike them it is debiased: the b that is read is divided by
      1 - decay^N, N being the games seen so far (Kingma and Ba 2015), and is 0 before any.
    - "episode": the authors' code. Game by game in the order given: A = R - b, then
      b <- decay b + (1 - decay) R.
    - "paper": the paper's text. The same with the update first, so each advantage is decay times that of
      "episode": the step is shorter by that factor, and nothing else changes.

    A game in which the role never moved trains nothing, but its return counts for the baseline.
    """

    def __init__(self, decay: float = 0.95, order: Order = "batch") -> None:
        if not 0 <= decay < 1:
            raise SpiralError(f"rae was given decay={decay}; give a number from 0 up to but not including 1")
        if order not in get_args(Order):
            raise SpiralError(f"rae was given order={order!r}; give one of {', '.join(get_args(Order))}")
        self.decay = decay
        self.order = order
        self.state: dict[str, Any] = {}
        """role -> {"average": the raw moving average, "weight": 1 - decay^N}; a role is "kuhn_poker/0"."""

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i, the same for all turns of a trajectory."""
        credit = self._batch(trajectories) if self.order == "batch" else self._in_order(trajectories)
        return [[advantage] * len(t.turns) for t, advantage in zip(trajectories, credit, strict=True)]

    def _batch(self, trajectories: Sequence[Trajectory]) -> list[float]:
        credit, returns = [], dict[str, list[float]]()
        for t in trajectories:
            average, weight = self._read(_role(t))
            credit.append(t.reward - (average / weight if weight else 0.0))
            returns.setdefault(_role(t), []).append(t.reward)
        # Only now: a baseline that had seen its own batch would be correlated with the returns it is subtracted from.
        for role, amounts in returns.items():
            # fsum rounds once, so that the last bit does not depend on the order of the games either.
            self._update(role, math.fsum(amounts) / len(amounts), len(amounts))
        return credit

    def _in_order(self, trajectories: Sequence[Trajectory]) -> list[float]:
        credit = []
        for t in trajectories:
            before, _ = self._read(_role(t))
            self._update(_role(t), t.reward, 1)
            after, _ = self._read(_role(t))
            credit.append(t.reward - (before if self.order == "episode" else after))
        return credit

    def _read(self, role: str) -> tuple[float, float]:
        seen = self.state.get(role, {"average": 0.0, "weight": 0.0})
        return seen["average"], seen["weight"]

    def _update(self, role: str, mean: float, count: int) -> None:
        average, weight = self._read(role)
        keep = self.decay**count
        self.state[role] = {"average": keep * average + (1 - keep) * mean, "weight": 1 - keep * (1 - weight)}


def _role(trajectory: Trajectory) -> str:
    return f"{trajectory.game}/{trajectory.player}"
