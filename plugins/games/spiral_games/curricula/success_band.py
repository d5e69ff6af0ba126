"""A curriculum that prefers games whose results are open to games that are always won, lost or drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from spiral import Episode, SpiralError
from spiral_games.curricula.success import learner_players, score


class SuccessBand:
    """Prefers games whose result is open: a chance in proportion to weight * openness, and no less than `floor` of it.

    A game that always ends alike trains nothing: the baseline removes all of its return. Openness is therefore the
    spread of the learner's score s (a win 1, a draw 1/2, a loss 0) as one player, 4 Var(s), averaged over the players.
    Without draws that is 4p(1 - p) for a success rate p: 1 at one half, 0 for a game that is always won or always
    lost; always drawn is 0 as well. A player whose mean score lies outside `low` to `high` counts as closed, whatever
    its spread. A closed game keeps `floor`: a game that is never played cannot show that it opened again.

    Mean and spread are moving ones with a half-life of ln 0.5 / ln `decay` games of a player (34 for 0.98). They start
    as those of an open game, so that a few first results close nothing.

    Against itself the learner's success says nothing about its strength, but player by player it says whether the
    result is open, which is what is asked here: a game that player 0 always wins, or that is always drawn, is
    closed. With one player, success is a return above 0.
    """

    def __init__(
        self, games: Mapping[str, float], low: float = 0.0, high: float = 1.0, floor: float = 0.1, decay: float = 0.98
    ) -> None:
        if not 0 <= low < high <= 1:
            raise SpiralError(f"success_band was given low={low} and high={high}; give 0 <= low < high <= 1")
        if not 0 < floor <= 1:
            raise SpiralError(f"success_band was given floor={floor}; give a number above 0, and at most 1")
        if not 0 <= decay < 1:
            raise SpiralError(f"success_band was given decay={decay}; give a number from 0 up to but not including 1")
        self._weights = dict(games)
        self._low, self._high, self._floor, self._decay = low, high, floor, decay
        self.state: dict[str, Any] = {}
        """game -> player -> {"mean": of the score, "square": mean of its square}."""

    def choose(self, rng: random.Random) -> str:
        """The next game's name."""
        chances = [weight * self.openness(game) for game, weight in self._weights.items()]
        return rng.choices(list(self._weights), chances)[0]

    def record(self, episode: Episode) -> None:
        """Count how a finished game ended for the players that the learner was."""
        # Each player has a window of its own: pooled over both, a game that player 0 always wins would look even.
        by_player = dict(self.state.get(episode.game, {}))
        for player in learner_players(episode):
            now, keep = score(episode, player), self._decay
            # Starts as an open game without draws: mean 1/2, spread 4 (1/2 - 1/4) = 1. Keys of JSON are strings.
            before = by_player.get(str(player), {"mean": 0.5, "square": 0.5})
            by_player[str(player)] = {
                "mean": keep * before["mean"] + (1 - keep) * now,
                "square": keep * before["square"] + (1 - keep) * now * now,
            }
        self.state[episode.game] = by_player

    def openness(self, game: str) -> float:
        """From `floor` to 1, the mean over the players that the learner has been; 1 before the first game."""
        by_player = self.state.get(game, {}).values()
        return fmean([self._of_player(**moments) for moments in by_player]) if by_player else 1.0

    def _of_player(self, mean: float, square: float) -> float:
        spread = 4 * (square - mean * mean) if self._low <= mean <= self._high else 0.0
        return max(self._floor, spread)
