"""A reward shaper that discounts a player's reward by the number of turns that the player took."""

from dataclasses import replace

from spiral import Episode, SpiralError, Trajectory


class Discount:
    """Multiplies a player's reward by gamma^(n - 1), n being the number of its own turns; unchanged for n of 0 or 1.

    What shapers before this one gave, for turns too, is part of the reward and shrinks with it; what later ones give
    does not. Illegal replies that were asked again count as turns.

    Not zero-sum where the players' numbers of turns differ: in a game won by the first player's third move, +1 and
    -1 become gamma^2 and -gamma. It also rewards delay: a losing player gains by losing later.
    """

    def __init__(self, gamma: float = 0.99) -> None:
        if not 0 < gamma <= 1:
            raise SpiralError(f"discount was given gamma={gamma}; give a number above 0, and at most 1")
        self.gamma = gamma

    def __call__(self, episode: Episode) -> Episode:
        """The episode with discounted `Trajectory.reward` and `Turn.reward`."""
        return replace(episode, trajectories=tuple([self._discounted(t) for t in episode.trajectories]))

    def _discounted(self, t: Trajectory) -> Trajectory:
        factor = self.gamma ** max(0, len(t.turns) - 1)
        turns = tuple([replace(turn, reward=factor * turn.reward) if turn.reward else turn for turn in t.turns])
        return replace(t, reward=factor * t.reward, turns=turns)
