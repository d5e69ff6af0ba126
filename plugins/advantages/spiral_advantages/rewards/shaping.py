"""Adds rewards to an episode's turns and updates each trajectory's total.

Apart from the shapers, so that in all of them a trajectory's reward includes those of its turns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from spiral import Episode, Turn


def paid(episode: Episode, for_turn: Callable[[Turn], float], for_player: Sequence[float] | None = None) -> Episode:
    """The episode with `for_turn(turn)` added to every turn and to its player's reward, `for_player[i]` to player i's.

    The turns of all players are paid alike, whatever policy played. `Episode.returns` stays what the game gave.
    """
    trajectories = []
    for t in episode.trajectories:
        amounts = [for_turn(turn) for turn in t.turns]
        turns = tuple(
            [replace(turn, reward=turn.reward + x) if x else turn for turn, x in zip(t.turns, amounts, strict=True)]
        )
        # A turn or trajectory that nothing was added to stays the same object, which saves copies of most of them.
        extra = math.fsum(amounts) + (for_player[t.player] if for_player else 0.0)
        trajectories.append(replace(t, reward=t.reward + extra, turns=turns) if any(amounts) or extra else t)
    return replace(episode, trajectories=tuple(trajectories))
