"""What the turns of a trajectory earned, and discounted sums of what followed."""

import math
from collections.abc import Sequence

from spiral import Trajectory


def turn_rewards(t: Trajectory) -> list[float]:
    """What each turn earned; the last one also what belongs to no turn."""
    rewards = [turn.reward for turn in t.turns]
    if rewards:
        # `Trajectory.reward` includes those of its turns: without the difference they would be counted twice.
        rewards[-1] += t.reward - math.fsum(rewards)
    return rewards


def discounted(amounts: Sequence[float], factor: float) -> list[float]:
    """`out[k] = amounts[k] + factor * out[k + 1]`."""
    out, total = [], 0.0
    # From the last turn to the first, one multiplication a turn: the sum of all later turns is carried in `total`.
    for amount in reversed(amounts):
        total = amount + factor * total
        out.append(total)
    return out[::-1]


def gae(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """Generalised advantage estimation: the advantage of each turn, given its reward and its value; after the last turn
    the value is 0. Schulman et al. 2016, equation 16."""
    following = [*values, 0.0][1:]
    deltas = [r + gamma * then - now for r, now, then in zip(rewards, values, following, strict=True)]
    return discounted(deltas, gamma * lam)
