"""Nested state baselines: the return minus what the other games returned from the same state, as far as it is known.

The state of a turn is what all players together had seen before it (`Turn.joint_state`), the cards of both in poker: a
move is judged against the deal that it was made in, so luck that came before it is no noise. A baseline that may see
what the player does not is used in training only, as the critic of Foerster et al. 2018, "Counterfactual Multi-Agent
Policy Gradients"; here no model learns it, it is the mean that leaves one game out (Kool, van Hoof and Welling 2019).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from spiral import SpiralError, Trajectory

MIN_COUNT = 0.5
"""Games, counted with their age: a state that weighs less is forgotten, so that a long run's memory has a bound."""

Sums = dict[str, tuple[float, float]]
"""key -> (weight, weighted sum of returns)"""


class Nested:
    """The return minus a baseline of its turn's state, shrunk towards one that more games share.

    With n other games, and their returns' sum s, at the same joint state, the baseline is (s + b_prompt) / (n + 1);
    b_prompt is the same over the games at the same prompt, shrunk to b_role, the moving average of the role that `rae`
    uses. So where no state comes twice it is `rae`, and where each is met often it is the state's own value.

    Unbiased: a baseline holds neither the game it is subtracted from nor the move, only other games and what was known
    before the move. `keep` is the weight that a step leaves the games of the steps before it: returns of older
    policies, which lower the variance of rare states and bias nothing. `decay` is that of `rae`.

    A game that meets one state in several turns counts there once a turn. Its own turns are all left out.
    """

    needs_joint_state = True

    def __init__(self, keep: float = 0.0, decay: float = 0.95) -> None:
        for name, value in (("keep", keep), ("decay", decay)):
            if not 0 <= value < 1:
                raise SpiralError(f"nested was given {name}={value}; give a number from 0 up to but not including 1")
        self.keep, self.decay = keep, decay
        self.state: dict[str, Any] = {"roles": {}, "states": {}}
        """`roles`: role -> [weight, weighted sum] of its moving average; `states`: the same by joint state and prompt,
        empty with keep=0."""

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i. Raises SpiralError for turns without a joint state."""
        before: Sums = {key: (weight, total) for key, (weight, total) in self.state["states"].items()}
        amounts: dict[str, list[float]] = defaultdict(list)
        keys = [[_keys(t, k) for k in range(len(t.turns))] for t in trajectories]
        for t, turns in zip(trajectories, keys, strict=True):
            for pair in turns:
                for key in pair:
                    amounts[key].append(t.reward)
        # fsum rounds once, so that the last bit does not depend on the order of the games.
        seen = {key: (float(len(returns)), math.fsum(returns)) for key, returns in amounts.items()}
        sums = {key: _add(entry, before.get(key, (0.0, 0.0))) for key, entry in seen.items()}
        out = [self._advantages(t, turns, sums) for t, turns in zip(trajectories, keys, strict=True)]
        self._remember(trajectories, before, seen)
        return out

    def _advantages(self, t: Trajectory, turns: list[tuple[str, str]], sums: Sums) -> list[float]:
        weight, total = self.state["roles"].get(_role(t), (0.0, 0.0))
        role = total / weight if weight else 0.0
        own: dict[str, int] = defaultdict(int)
        for pair in turns:
            for key in pair:
                own[key] += 1
        row = []
        for state, prompt in turns:
            baseline = role
            for key in (prompt, state):
                count, amount = sums[key]
                baseline = (amount - own[key] * t.reward + baseline) / (count - own[key] + 1)
            row.append(t.reward - baseline)
        return row

    def _remember(self, trajectories: Sequence[Trajectory], before: Sums, seen: Sums) -> None:
        """Only now: a baseline that had seen its own game would be correlated with the return it is subtracted from."""
        by_role: dict[str, list[float]] = defaultdict(list)
        for t in trajectories:
            by_role[_role(t)].append(t.reward)
        for role, returns in by_role.items():
            weight, total = self.state["roles"].get(role, (0.0, 0.0))
            kept = self.decay ** len(returns)
            mean = math.fsum(returns) / len(returns)
            self.state["roles"][role] = [kept * weight + 1 - kept, kept * total + (1 - kept) * mean]
        if not self.keep:
            return
        states = {}
        for key in before.keys() | seen.keys():
            count, amount = _add(before.get(key, (0.0, 0.0)), seen.get(key, (0.0, 0.0)))
            if self.keep * count >= MIN_COUNT:
                states[key] = [self.keep * count, self.keep * amount]
        self.state["states"] = dict(sorted(states.items()))  # a set's order is not the same in every process


def _keys(t: Trajectory, turn: int) -> tuple[str, str]:
    """Of the joint state and of the prompt before a turn."""
    state = t.turns[turn].joint_state
    if not state:
        raise SpiralError(
            f"nested compares games by their joint state, and turn {turn} of player {t.player} of {t.game} has none; "
            "play the games with rollouts that record it, as spiral train does"
        )
    return f"{_role(t)}/{state}", f"{_role(t)}/{t.turns[turn].observation}"


def _role(t: Trajectory) -> str:
    return f"{t.game}/{t.player}"


def _add(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]
