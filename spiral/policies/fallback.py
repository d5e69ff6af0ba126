"""A sampler of opponents that another one takes over in part, after a collapse; knows neither of them."""

from __future__ import annotations

import random
from typing import Any

from spiral.api.interfaces import OpponentSampler, Records, Stateful
from spiral.api.records import Episode, PolicyId
from spiral.policies.pool import Pool


class Widened:
    """Seats by `first`; once `widen` was called, `second` seats a share of the games, more each time.

    After n calls `second` has 1 - (1 - share)^n of them.
    """

    def __init__(self, first: OpponentSampler, second: OpponentSampler, share: float) -> None:
        self.samplers = (first, second)
        self._share = share
        self.times = 0

    def widen(self) -> None:
        """Let the second sampler have more."""
        self.times += 1

    def seat(self, game: str, num_players: int, pool: Pool, rng: random.Random) -> list[PolicyId]:
        second = bool(self.times) and rng.random() < 1 - (1 - self._share) ** self.times
        return self.samplers[second].seat(game, num_players, pool, rng)

    def record(self, episode: Episode) -> None:
        for sampler in self.samplers:
            if isinstance(sampler, Records):
                sampler.record(episode)

    @property
    def state(self) -> dict[str, Any]:
        """JSON values: how often it was widened, and the state of both."""
        return {"times": self.times, "samplers": [s.state if isinstance(s, Stateful) else None for s in self.samplers]}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.times = state["times"]
        for sampler, its in zip(self.samplers, state["samplers"], strict=True):
            if isinstance(sampler, Stateful):
                sampler.state = its
