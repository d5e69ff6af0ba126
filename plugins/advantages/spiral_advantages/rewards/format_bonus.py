"""A reward shaper that pays for replies that can be read as a move, legal or not."""

import math

from spiral import Episode, SpiralError
from spiral_advantages.rewards.shaping import paid


class FormatBonus:
    """Pays `bonus` for each turn whose reply could be read as a move, legal or not; in units of the return.

    Not zero-sum: every readable turn adds `bonus` to the sum over the players. So a longer game pays more, to both,
    and a bonus that is not small against the game's stakes makes prolonging it worth losing.
    """

    def __init__(self, bonus: float = 0.1) -> None:
        if not math.isfinite(bonus):
            raise SpiralError(f"format_bonus was given bonus={bonus}; give a finite number")
        self.bonus = bonus

    def __call__(self, episode: Episode) -> Episode:
        """The episode with the bonus in `Turn.reward`."""
        return paid(episode, lambda turn: 0.0 if turn.move is None else self.bonus)
