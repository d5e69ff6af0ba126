"""Generalised advantage estimation (GAE) over turns, with a moving value for each turn number of a role.

A role is (game, player). Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage
Estimation"; per turn and per role as in Yuan et al. 2025, "MARSHAL: Incentivizing Multi-Agent Reasoning via
Self-Play with Strategic LLMs".
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from spiral import SpiralError, Trajectory
from spiral_advantages.returns import discounted, gae, turn_rewards

Normalise = Literal["none", "mean", "std"]

EPS = 1e-4
"""In units of the return: keeps a role whose advantages are nearly equal from being blown up by its deviation."""


class TurnGae:
    """GAE over the turns of a role, with a running value for each turn number (its first turn, its second, ...).

    Turn k of a trajectory of K turns earns r_k, its own `Turn.reward`; the last one also earns the rest of the
    trajectory's reward, the game's return. With the values V of before the batch, and V_K = 0,

        delta_k = r_k + gamma V_{k+1} - V_k        A_k = delta_k + gamma lam A_{k+1}

    V of (game, player, k) is the moving average of the returns-to-go G_k = r_k + gamma G_{k+1} of the role's turn k:
    for a batch's n of them, b <- decay^n b + (1 - decay^n) mean, read as b / (1 - decay^N) after N in all, and 0
    before any. So it neither sees its own batch nor depends on the order of the games; it is RAE with a baseline for
    each turn number. As in MARSHAL, rewards are summed over the turns first, and the sums normalised afterwards, over
    all turns of one role in the batch.

    What is biased, and by what:
    - lam=1, gamma=1, normalise="none" (the defaults): A_k = G_k - V_k. Unbiased: V_k is fixed before the batch, and
      what was earned before turn k, which is left out, is nothing that the turn could change.
    - lam < 1 trusts V_{k+1} in place of what really followed. V knows the number of a turn and not its state, so
      that is biased however long V is learned; with two turns at most, by 1 - lam times the bias of lam=0.
    - gamma < 1 climbs a return in which later rewards count less. A turn is one of the player's own turns.
    - normalise="mean" subtracts the mean of the role's advantages in the batch. An advantage is in its own mean, so
      the step of a role that has one turn in each of n games is shorter by the factor 1 - 1/n. Where the number of
      turns depends on play the direction is off as well. Both vanish as n grows.
    - normalise="std" also divides by their population deviation (+ EPS). That does not vanish: every role and game
      is scaled by 1 / deviation, so one played for a chip weighs as much as one played for a hundred.

    A game in which the role never moved trains nothing, and counts for no value.
    """

    def __init__(
        self, gamma: float = 1.0, lam: float = 1.0, normalise: Normalise = "none", decay: float = 0.95
    ) -> None:
        for name, value in (("gamma", gamma), ("lam", lam)):
            if not 0 <= value <= 1:
                raise SpiralError(f"turn_gae was given {name}={value}; give a number from 0 to 1")
        if normalise not in get_args(Normalise):
            raise SpiralError(
                f"turn_gae was given normalise={normalise!r}; give one of {', '.join(get_args(Normalise))}"
            )
        if not 0 <= decay < 1:
            raise SpiralError(f"turn_gae was given decay={decay}; give a number from 0 up to but not including 1")
        self.gamma, self.lam, self.normalise, self.decay = gamma, lam, normalise, decay
        self.state: dict[str, Any] = {}
        """(role, turn) -> {"average": the raw moving average, "weight": 1 - decay^N}; a key is "kuhn_poker/0/1"."""

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i."""
        credit, seen = [], dict[str, list[float]]()
        # Values are read here and updated below: had V seen this batch, lam=1 would no longer be unbiased.
        for t in trajectories:
            rewards = turn_rewards(t)
            values = [self._value(_key(t, k)) for k in range(len(rewards))]
            credit.append(gae(rewards, values, self.gamma, self.lam))
            # V learns from the returns-to-go, not from V itself: with lam=1 and gamma=1 it is RAE's mean for turn k.
            for k, amount in enumerate(discounted(rewards, self.gamma)):
                seen.setdefault(_key(t, k), []).append(amount)
        for key, amounts in seen.items():
            self._update(key, amounts)
        return credit if self.normalise == "none" else self._normalised(trajectories, credit)

    def _value(self, key: str) -> float:
        seen = self.state.get(key)
        return seen["average"] / seen["weight"] if seen else 0.0

    def _update(self, key: str, amounts: Sequence[float]) -> None:
        seen = self.state.get(key, {"average": 0.0, "weight": 0.0})
        keep = self.decay ** len(amounts)
        # fsum rounds once, so that the last bit does not depend on the order of the games either.
        mean = math.fsum(amounts) / len(amounts)
        self.state[key] = {
            "average": keep * seen["average"] + (1 - keep) * mean,
            "weight": 1 - keep * (1 - seen["weight"]),
        }

    def _normalised(self, trajectories: Sequence[Trajectory], credit: Sequence[list[float]]) -> list[list[float]]:
        by_role: dict[tuple[str, int], list[float]] = {}
        for t, row in zip(trajectories, credit, strict=True):
            by_role.setdefault((t.game, t.player), []).extend(row)
        moments = {role: _moments(advantages) for role, advantages in by_role.items()}
        out = []
        for t, row in zip(trajectories, credit, strict=True):
            mean, deviation = moments[t.game, t.player]
            scale = deviation + EPS if self.normalise == "std" else 1.0
            out.append([(advantage - mean) / scale for advantage in row])
        return out


def _moments(numbers: Sequence[float]) -> tuple[float, float]:
    """(mean, population standard deviation); zeros for no numbers."""
    if not numbers:
        return 0.0, 0.0
    mean = math.fsum(numbers) / len(numbers)
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / len(numbers))


def _key(t: Trajectory, turn: int) -> str:
    return f"{t.game}/{t.player}/{turn}"
