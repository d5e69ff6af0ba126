"""From finished episodes to advantages: the run's reward shapers, then its estimator, each held to its contract."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spiral.api.errors import PluginError
from spiral.api.records import Episode, Trajectory
from spiral.api.training import AdvantageEstimator, RewardShaper
from spiral.plugins.faults import blamed


def shaped(episodes: Sequence[Episode], shapers: Sequence[RewardShaper], names: Sequence[str]) -> list[Episode]:
    """The episodes after every shaper, in the order of the config. `names`: one a shaper. Raises PluginError for one
    that raises, or gives what is no finite reward."""
    shaped_episodes = list(episodes)
    for shaper, name in zip(shapers, names, strict=True):
        with blamed(f"reward '{name}'"):
            shaped_episodes = [_checked(shaper(episode), episode, name) for episode in shaped_episodes]
    return shaped_episodes


def advantages_of(
    estimator: AdvantageEstimator, trajectories: Sequence[Trajectory], name: str
) -> Sequence[Sequence[float]]:
    """`out[i][k]`: the advantage of turn k of trajectory i. Raises PluginError for an estimator that raises, or gives
    anything but a finite number for each turn."""
    with blamed(f"advantage estimator '{name}'"):
        advantages: object = estimator(trajectories)
    if not isinstance(advantages, list | tuple) or len(advantages) != len(trajectories):
        raise PluginError(
            f"advantage estimator '{name}' returned {_said(advantages)} for {len(trajectories)} trajectories; it must "
            "return one list a trajectory"
        )
    for trajectory, row in zip(trajectories, advantages, strict=True):
        _check_row(row, trajectory, name)
    return advantages


def _check_row(row: object, trajectory: Trajectory, name: str) -> None:
    where = f"(game {trajectory.game}, player {trajectory.player}"
    if not isinstance(row, list | tuple) or len(row) != len(trajectory.turns):
        raise PluginError(
            f"advantage estimator '{name}' returned {_said(row)} for a trajectory of {len(trajectory.turns)} turns "
            f"{where}); it must return one number a turn"
        )
    for turn, advantage in enumerate(row):
        if not _is_number(advantage):
            raise PluginError(
                f"advantage estimator '{name}' returned {advantage!r} {where}, turn {turn}), which is no finite "
                "number; fix it or choose another estimator"
            )


def _checked(after: object, before: Episode, name: str) -> Episode:
    if not isinstance(after, Episode) or len(after.trajectories) != len(before.trajectories):
        raise PluginError(f"reward '{name}' returned {_said(after)}; it must return the episode with other rewards")
    for trajectory in after.trajectories:
        if not _is_number(trajectory.reward):
            raise PluginError(
                f"reward '{name}' gave player {trajectory.player} of {before.game} {trajectory.reward!r}, which is no "
                "finite number; fix it or choose another reward"
            )
    return after


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _said(value: object) -> str:
    """What a plug-in returned: its type and, of a list, how long it is."""
    return f"{len(value)} values" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
