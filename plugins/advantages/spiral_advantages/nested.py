"""Nested state baselines: the return minus what the other games returned from the same state, as far as it is known.

The state of a turn is what all players together had seen before it (`Turn.joint_state`), the cards of both in poker: a
move is judged against the deal that it was made in, so luck that came before it is no noise. A baseline that may see
what the player does not is used in training only, as the critic of Foerster et al. 2018, "Counterfactual Multi-Agent
Policy Gradients"; here no model learns it, it is the mean that leaves one game out (Kool, van Hoof and Welling 2019).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from spiral import SpiralError, Trajectory

MIN_COUNT = 0.5
"""Games, counted with their age: a state that weighs less is forgotten, so that a long run's memory has a bound."""

Sums = dict[str, tuple[float, float]]
"""State or prompt -> (weight, weighted sum of returns), of one role."""


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
        """`roles`: role -> [weight, weighted sum] of its moving average; `states`: role -> the same by joint state and
        by prompt, empty with keep=0."""

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i. Raises SpiralError for turns without a joint state."""
        by_role: dict[str, list[int]] = defaultdict(list)
        for index, t in enumerate(trajectories):
            by_role[f"{t.game}/{t.player}"].append(index)
        out: list[list[float]] = [[] for _ in trajectories]
        for role, members in sorted(by_role.items()):
            rows = self._of_role(role, [trajectories[index] for index in members])
            for index, row in zip(members, rows, strict=True):
                out[index] = row
        return out

    def _of_role(self, role: str, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        keys = [_keys(t) for t in trajectories]
        amounts: dict[str, list[float]] = defaultdict(list)
        for t, own in zip(trajectories, keys, strict=True):
            for key in own:
                amounts[key].append(t.reward)
        # fsum rounds once, so that the last bit does not depend on the order of the games.
        sums: Sums = {key: (float(len(returns)), math.fsum(returns)) for key, returns in amounts.items()}
        for key, (count, amount) in self.state["states"].get(role, {}).items():
            now = sums.get(key, (0.0, 0.0))
            sums[key] = now[0] + count, now[1] + amount
        weight, total = self.state["roles"].get(role, (0.0, 0.0))
        mean = total / weight if weight else 0.0
        rows = [_advantages(t.reward, own, sums, mean) for t, own in zip(trajectories, keys, strict=True)]
        # Only now: a baseline that had seen its own game would be correlated with the return it is subtracted from.
        self._remember(role, [t.reward for t in trajectories], sums)
        return rows

    def _remember(self, role: str, returns: Sequence[float], sums: Sums) -> None:
        weight, total = self.state["roles"].get(role, (0.0, 0.0))
        kept, mean = self.decay ** len(returns), math.fsum(returns) / len(returns)
        self.state["roles"][role] = [kept * weight + 1 - kept, kept * total + (1 - kept) * mean]
        if self.keep:
            aged = {key: [self.keep * count, self.keep * amount] for key, (count, amount) in sorted(sums.items())}
            self.state["states"][role] = {key: pair for key, pair in aged.items() if pair[0] >= MIN_COUNT}


def _keys(t: Trajectory) -> list[str]:
    """The joint state and the prompt of each turn, one after the other. Marked, as a game may name one as the other."""
    keys = []
    for number, turn in enumerate(t.turns):
        if not turn.joint_state:
            raise SpiralError(
                f"nested compares games by their joint state, and turn {number} of player {t.player} of {t.game} has "
                "none; play the games with rollouts that record it, as spiral train does"
            )
        keys += [f"state {turn.joint_state}", f"prompt {turn.observation}"]
    return keys


def _advantages(reward: float, keys: Sequence[str], sums: Sums, role: float) -> list[float]:
    """One a turn. `role`: the role's baseline, which the prompt's is shrunk to, and the state's to that."""
    row = []
    own = Counter(keys)  # turns of this very game at a state, and at a prompt
    for state, prompt in zip(keys[::2], keys[1::2], strict=True):
        baseline = role
        for key in (prompt, state):
            count, amount = sums[key]
            baseline = (amount - own[key] * reward + baseline) / (count - own[key] + 1)
        row.append(reward - baseline)
    return row
