"""A bot that plays an exact Nash equilibrium of Kuhn poker, and no other game.

Kuhn (1950) shows that all equilibria agree on the second player and form a line for the first: with `alpha`
in [0, 1/3] the first player bets J with probability alpha and K with 3 alpha, checks Q, and calls a bet with
Q with probability alpha + 1/3. Rounds of a match are independent and chips add up, so the same play in each
round is an equilibrium of the match too.
"""

import random

from spiral import Game, SpiralError
from spiral_games.native.kuhn_poker import KuhnPoker


class Equilibrium:
    """Nash play for `kuhn_poker`; its first player expects -1/18 chip a round against best play."""

    def __init__(self, alpha: float = 1 / 6) -> None:
        if not 0 <= alpha <= 1 / 3:
            raise SpiralError(f"equilibrium got alpha={alpha}; the equilibria have alpha from 0 to 1/3.")
        # Own card and the round's moves -> probability of the move that puts a chip in: bet, or call a bet.
        self._aggression = {
            "J": alpha, "Q": 0.0, "K": 3 * alpha,
            "J check bet": 0.0, "Q check bet": alpha + 1 / 3, "K check bet": 1.0,
            "J check": 1 / 3, "Q check": 0.0, "K check": 1.0,
            "J bet": 0.0, "Q bet": 1 / 3, "K bet": 1.0,
        }  # fmt: skip

    def probabilities(self, game: Game, player: int) -> dict[str, float]:
        """The probability of each legal move of `player`, whose turn it is."""
        if not isinstance(game, KuhnPoker):
            name = type(game).__name__
            raise SpiralError(f"The bot equilibrium plays kuhn_poker only, not {name}; choose another bot.")
        # Read from the observation, so that the bot cannot see more than the player may.
        situation = game.observe(player).rsplit("; ", 1)[-1].removeprefix(f"kuhn p{player} ")
        aggression = self._aggression[situation]
        if situation.endswith("bet"):
            return {"call": aggression, "fold": 1 - aggression}
        return {"check": 1 - aggression, "bet": aggression}

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        probabilities = self.probabilities(game, player)
        return rng.choices(list(probabilities), list(probabilities.values()))[0]
