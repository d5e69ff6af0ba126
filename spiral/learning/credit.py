"""From finished episodes to advantages: the run's reward shapers, then its estimator, whose numbers are checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spiral.api.errors import RunError
from spiral.api.records import Episode, Trajectory
from spiral.api.training import AdvantageEstimator, RewardShaper


def shaped(episodes: Sequence[Episode], shapers: Sequence[RewardShaper]) -> list[Episode]:
    """The episodes after every shaper, in the order of the config."""
    shaped_episodes = list(episodes)
    for shaper in shapers:
        shaped_episodes = [shaper(episode) for episode in shaped_episodes]
    return shaped_episodes


def advantages_of(
    estimator: AdvantageEstimator, trajectories: Sequence[Trajectory], name: str
) -> Sequence[Sequence[float]]:
    """`out[i][k]`: the advantage of turn k of trajectory i. Raises RunError for a value that is not finite."""
    advantages = estimator(trajectories)
    check_finite(advantages, trajectories, name)
    return advantages


def check_finite(advantages: Sequence[Sequence[float]], trajectories: Sequence[Trajectory], name: str) -> None:
    """Raise RunError for an estimator whose values the learner could not train on, naming the first of them."""
    for trajectory, row in zip(trajectories, advantages, strict=True):
        for turn, advantage in enumerate(row):
            if not math.isfinite(advantage):
                raise RunError(
                    f"advantage estimator '{name}' returned {advantage} (game {trajectory.game}, player "
                    f"{trajectory.player}, turn {turn}); fix it or choose another estimator"
                )
