"""A curriculum of games from easy to hard, each opened when the one before it is won often enough."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from spiral import Episode, SpiralError
from spiral_games.curricula.success import learner_players, score, tells_strength


class Chain:
    """A chain of difficulty: the next game opens when the learner's success on the newest one is high enough.

    `order` names the run's games from the first to the last; without it, the order of the config. The newest open
    game is played, and in a share of `rehearsal` of the games one of the earlier ones instead, drawn by weight. The
    next one opens when the mean score (a win 1, a draw 1/2, a loss 0; with one player 1 for a return above 0) over the
    last `window` games on the newest one reaches `threshold`; its own window starts empty.

    Games of the learner against itself say nothing about its strength and do not count. So that a run of pure
    self-play does not stay with its first game for ever, a game is also left behind after `patience` games of any
    kind; null waits without end.
    """

    def __init__(
        self,
        games: Mapping[str, float],
        order: list[str] | None = None,
        threshold: float = 0.6,
        window: int = 200,
        rehearsal: float = 0.2,
        patience: int | None = 10_000,
    ) -> None:
        self._order = list(games) if order is None else _ordered(order, games)
        if not 0 < threshold <= 1:
            raise SpiralError(f"chain was given threshold={threshold}; give a number above 0, and at most 1")
        if window < 1:
            raise SpiralError(f"chain was given window={window}; give at least 1 game")
        if not 0 <= rehearsal < 1:
            raise SpiralError(f"chain was given rehearsal={rehearsal}; give a number from 0 up to but not including 1")
        if patience is not None and patience < 1:
            raise SpiralError(f"chain was given patience={patience}; give at least 1 game, or null to wait without end")
        self._weights = dict(games)
        self._threshold, self._window, self._rehearsal, self._patience = threshold, window, rehearsal, patience
        self.state: dict[str, Any] = {"link": 0, "games": 0, "scores": []}
        """Place of the newest open game; how often it was played; its last scores, oldest first."""

    def choose(self, rng: random.Random) -> str:
        """The next game's name."""
        link: int = self.state["link"]
        earlier = self._order[:link]
        if earlier and rng.random() < self._rehearsal:
            return rng.choices(earlier, [self._weights[game] for game in earlier])[0]
        return self._order[link]

    def record(self, episode: Episode) -> None:
        """Count a finished game, and open the next one when it is time."""
        link, games, scores = self.state["link"], self.state["games"] + 1, self.state["scores"]
        # Not counted: rehearsed games, and games of the link before that were drawn before the newest one opened.
        if episode.game != self._order[link]:
            return
        players = learner_players(episode)
        if players and tells_strength(episode):
            # One number a game, however many players the learner is: the window counts games.
            scores = [*scores, fmean([score(episode, player) for player in players])][-self._window :]
        if link + 1 < len(self._order) and self._is_done(games, scores):
            link, games, scores = link + 1, 0, []
        self.state = {"link": link, "games": games, "scores": scores}

    def _is_done(self, games: int, scores: Sequence[float]) -> bool:
        if self._patience is not None and games >= self._patience:
            return True
        # Only a full window: the mean of the first few games would open the next game by luck.
        return len(scores) == self._window and fmean(scores) >= self._threshold


def _ordered(order: Sequence[str], games: Mapping[str, float]) -> list[str]:
    """`order` as it is. Raises SpiralError unless it names each game of the run once."""
    if sorted(map(str, order)) != sorted(games):
        raise SpiralError(
            f"chain was given order={list(order)}, and the run's games are {', '.join(games)}; name each of them once"
        )
    return list(order)
