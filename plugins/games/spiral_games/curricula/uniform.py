"""A curriculum that draws every game alike."""

from __future__ import annotations

import random
from collections.abc import Mapping


class Uniform:
    """Every game with the same chance, whatever its weight."""

    def __init__(self, games: Mapping[str, float]) -> None:
        self._names = list(games)

    def choose(self, rng: random.Random) -> str:
        """The next game's name."""
        return rng.choice(self._names)
