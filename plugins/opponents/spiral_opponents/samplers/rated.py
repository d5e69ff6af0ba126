"""Opponent samplers that choose by results: by the learner's scores (PFSP) or by ratings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from spiral import PolicyId, PoolView, SpiralError
from spiral_opponents.samplers.seating import around_learner, weighted

Weighting = Literal["squared", "linear", "variance"]

WEIGHTINGS: dict[str, Callable[[float], float]] = {
    "squared": lambda score: (1 - score) ** 2,
    "linear": lambda score: 1 - score,
    "variance": lambda score: score * (1 - score),
}
"""The learner's recent score against an opponent, from 0 to 1 -> the opponent's weight in the draw."""


class Pfsp:
    """Prioritised fictitious self-play (Vinyals et al., Nature 575, 2019): opponents that win are met more often.

    `weighting` of an opponent against whom the learner's recent score is x: `squared` (1 - x)^2 seeks the hardest,
    `linear` 1 - x, `variance` x(1 - x) those of its own strength. With chance `mirror` the learner meets itself.
    """

    needs_pool = True

    def __init__(self, weighting: Weighting = "squared", mirror: float = 0.5) -> None:
        if weighting not in get_args(Weighting) or not 0 <= mirror <= 1:
            raise SpiralError(
                f"pfsp got weighting={weighting!r} and mirror={mirror}; weighting is one of {', '.join(WEIGHTINGS)}, "
                "mirror a chance from 0 to 1."
            )
        self.weighting, self.mirror = weighting, mirror

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        opponents = pool.opponents(game)
        if not opponents or rng.random() < self.mirror:
            return [pool.learner] * num_players
        # An opponent never met has the score 1/2, so that none has weight 0 before its first game.
        weights = [WEIGHTINGS[self.weighting](pool.results.score(game, policy)) for policy in opponents]
        return around_learner(num_players, pool, rng, lambda: weighted(opponents, weights, rng))


class RatingWindow:
    """Opponents rated within `width` of the learner, each alike; the nearest one if none is.

    `width` is in points of the pool's ratings, where a new player's uncertainty is 8.3. With chance `mirror`, and
    while there are no opponents, the learner meets itself.
    """

    needs_pool = True

    def __init__(self, width: float = 4.0, mirror: float = 0.5) -> None:
        if not width >= 0 or not 0 <= mirror <= 1:
            raise SpiralError(
                f"rating_window got width={width} and mirror={mirror}; width is 0 or more, mirror a chance from 0 to 1."
            )
        self.width, self.mirror = width, mirror

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        opponents = pool.opponents(game)
        if not opponents or rng.random() < self.mirror:
            return [pool.learner] * num_players
        own = pool.results.rating(game, pool.learner).mu
        distance = {policy: abs(pool.results.rating(game, policy).mu - own) for policy in opponents}
        near = [policy for policy in opponents if distance[policy] <= self.width]
        near = near or [min(opponents, key=lambda policy: distance[policy])]
        return around_learner(num_players, pool, rng, lambda: rng.choice(near))
