"""The perfect player of Nim: leave heaps whose sizes have an exclusive or of 0 (Bouton 1901)."""

import random
from functools import reduce
from operator import xor

from acme_nim.nim import Nim
from spiral import Game, SpiralError


class NimExpert:
    """Wins every match of `nim` that can be won; takes at random where it cannot."""

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        if not isinstance(game, Nim):
            raise SpiralError(f"The bot nim_expert plays nim only, not {type(game).__name__}; choose another bot.")
        heaps = {heap[0]: int(heap[1:]) for heap in game.observe(player).split(": ")[1].split()}
        total = reduce(xor, heaps.values())
        wins = [f"{name}{n - (n ^ total)}" for name, n in heaps.items() if n ^ total < n]
        return rng.choice(wins or game.legal_moves())
