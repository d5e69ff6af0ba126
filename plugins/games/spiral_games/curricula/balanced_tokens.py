"""A curriculum that balances the trained tokens of each game, not the number of games."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from spiral import LEARNER, Episode, SpiralError


class BalancedTokens:
    """Each game gets its weight's share of the trained tokens: a long game is played less often than a short one.

    Trained tokens are those of the learner's replies. A game is drawn with a chance in proportion to weight / (its
    mean number of trained tokens a game). The mean is a moving one with a half-life of ln 0.5 / ln `decay` games (69
    for 0.99), debiased, so that the first game already counts in full. A step's games are all drawn before any of
    them is recorded, so what was played in the past is not made up for: the shares of the steps to come are right.

    A game that was not yet played, or trained no token yet, is taken for one of average length; so the first games
    are drawn by weight.
    """

    def __init__(self, games: Mapping[str, float], decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise SpiralError(
                f"balanced_tokens was given decay={decay}; give a number from 0 up to but not including 1"
            )
        self._weights = dict(games)
        self._decay = decay
        self.state: dict[str, Any] = {}
        """game -> {"tokens": the raw moving average, "weight": 1 - decay^N after N games}."""

    def choose(self, rng: random.Random) -> str:
        """The next game's name."""
        means = self._means()
        chances = [weight / means[game] for game, weight in self._weights.items()]
        return rng.choices(list(self._weights), chances)[0]

    def record(self, episode: Episode) -> None:
        """Count the trained tokens of a finished game."""
        trained = [trajectory for trajectory in episode.trajectories if trajectory.policy.partition(":")[0] == LEARNER]
        tokens = sum(turn.num_sampled for trajectory in trained for turn in trajectory.turns)
        keep, before = self._decay, self.state.get(episode.game, {"tokens": 0.0, "weight": 0.0})
        self.state[episode.game] = {
            "tokens": keep * before["tokens"] + (1 - keep) * tokens,
            "weight": keep * before["weight"] + 1 - keep,
        }

    def _means(self) -> dict[str, float]:
        """Trained tokens a game, for every game of the run."""
        # A mean of 0 would make a game's chance infinite, so games without a trained token count as unknown.
        measured = {game: seen["tokens"] / seen["weight"] for game, seen in self.state.items() if seen["tokens"] > 0}
        average = sum(measured.values()) / len(measured) if measured else 1.0
        return {game: measured.get(game, average) for game in self._weights}
