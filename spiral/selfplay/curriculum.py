"""Which game of the mixture is played next: the sampler that the core ships."""

from __future__ import annotations

import random
from collections.abc import Mapping


class Weighted:
    """Every game with a chance in proportion to its weight, each draw on its own."""

    def __init__(self, games: Mapping[str, float]) -> None:
        self._names, self._weights = list(games), list(games.values())

    def choose(self, rng: random.Random) -> str:
        """The next game's name."""
        return self._names[0] if len(self._names) == 1 else rng.choices(self._names, self._weights)[0]
