"""A reward shaper that charges for illegal and unreadable moves, beside what the rollout does about them."""

import math

from spiral import Episode, SpiralError
from spiral_advantages.rewards.shaping import paid


class IllegalPenalty:
    """Each illegal or unreadable turn costs its player `penalty`; with `zero_sum` the others share the same amount.

    It comes on top of `rollout.illegal`, which scores the move that ends a game; with `rollout.retries` it is the
    only price of the illegal replies before that one. The cost goes to the turn, the others' share to their game.

    With `zero_sum` what the players get adds up as before, as long as there are two or more. The price of that is
    that a player is paid for the other's illegal moves. Without it, and in games for one, the sum is lower by
    `penalty` for each illegal turn: both players gain when both move legally.
    """

    def __init__(self, penalty: float = 0.5, zero_sum: bool = True) -> None:
        if not 0 <= penalty < math.inf:
            raise SpiralError(f"illegal_penalty was given penalty={penalty}; give a finite number, at least 0")
        self.penalty = penalty
        self.zero_sum = zero_sum

    def __call__(self, episode: Episode) -> Episode:
        """The episode with the penalties in `Turn.reward` and the shares in `Trajectory.reward`."""
        illegal = [sum(not turn.legal for turn in t.turns) for t in episode.trajectories]
        shares = None
        if self.zero_sum and len(illegal) > 1:
            # What each player pays is split evenly among the others, so the sum over the players does not change.
            shares = [self.penalty * (sum(illegal) - own) / (len(illegal) - 1) for own in illegal]
        return paid(episode, lambda turn: 0.0 if turn.legal else -self.penalty, shares)
