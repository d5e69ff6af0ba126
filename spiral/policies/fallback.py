"""An opponent sampler that hands a share of the games to a fallback sampler, more after each rollback."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from spiral.api.policies import OpponentSampler, PoolView
from spiral.api.records import Episode, PolicyId
from spiral.api.training import RecordsEpisodes, Stateful
from spiral.plugins.faults import blamed


class FallbackSampler:
    """Seats by `first`, and a share of the games by `fallback`: none until `num_rollbacks` is set above 0.

    After n rollbacks the fallback has 1 - (1 - share)^n of the games.
    """

    def __init__(self, first: OpponentSampler, fallback: OpponentSampler, share: float, names: Sequence[str]) -> None:
        """`names`: how errors call the two."""
        self.samplers, self._names = (first, fallback), names
        self._share = share
        self.num_rollbacks = 0
        """Set by the run's recovery, which keeps the count."""

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        # No draw before the first rollback, so that a run without one seats exactly as `first` alone would.
        use_fallback = bool(self.num_rollbacks) and rng.random() < 1 - (1 - self._share) ** self.num_rollbacks
        with blamed(self._names[use_fallback]):
            return self.samplers[use_fallback].seat(game, num_players, pool, rng)

    def record(self, episode: Episode) -> None:
        for sampler, name in zip(self.samplers, self._names, strict=True):
            if isinstance(sampler, RecordsEpisodes):
                with blamed(f"{name}, in record(episode),"):
                    sampler.record(episode)

    @property
    def state(self) -> dict[str, Any]:
        """JSON values: the state of both samplers."""
        return {"samplers": [s.state if isinstance(s, Stateful) else None for s in self.samplers]}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        for sampler, its in zip(self.samplers, state["samplers"], strict=True):
            if isinstance(sampler, Stateful):
                sampler.state = its
