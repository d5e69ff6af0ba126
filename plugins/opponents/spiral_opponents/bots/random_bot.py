"""A bot that plays a random legal move."""

import random

from spiral import Game, SpiralError, random_legal_move


class RandomBot:
    """A random legal move: uniform where the moves can be listed, else the game's own `sample_move`."""

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        try:
            return random_legal_move(game, rng)
        except ValueError as error:
            # A game with `sample_move` can be played, and found no move in this one match: that is the game's error.
            if hasattr(game, "sample_move"):
                raise
            raise SpiralError(f"The bot random cannot play: {error}; choose another bot.") from error
