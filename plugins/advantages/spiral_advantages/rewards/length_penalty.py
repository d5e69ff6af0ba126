"""A reward shaper that charges for each token of a reply beyond a target length."""

import math

from spiral import Episode, SpiralError
from spiral_advantages.rewards.shaping import paid


class LengthPenalty:
    """Each token of a reply beyond `target_tokens` costs its turn `weight`, in units of the return a token.

    Not zero-sum: what is taken from a long reply is paid to no player. Both players gain when both are brief, and
    thinking that wins less than its tokens cost is unlearned. A bot's turn has no tokens and costs nothing.
    """

    def __init__(self, target_tokens: int = 256, weight: float = 0.001) -> None:
        if target_tokens < 0:
            raise SpiralError(f"length_penalty was given target_tokens={target_tokens}; give at least 0")
        if not 0 <= weight < math.inf:
            raise SpiralError(f"length_penalty was given weight={weight}; give a finite number, at least 0")
        self.target_tokens = target_tokens
        self.weight = weight

    def __call__(self, episode: Episode) -> Episode:
        """The episode with the cost in `Turn.reward`."""
        return paid(episode, lambda turn: -self.weight * max(0, turn.num_sampled - self.target_tokens))
