"""How a shaper writes rewards into a finished game, so that turns and trajectories agree; it knows no reason to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from spiral import Episode, Turn


def paid(episode: Episode, for_turn: Callable[[Turn], float], for_player: Sequence[float] | None = None) -> Episode:
    """The episode with `for_turn(turn)` added to every turn and to its player's reward, `for_player[i]` to player i's.

    The turns of all players are paid alike, whoever sat there. `Episode.returns` stays what the game gave.
    """
    trajectories = []
    for t in episode.trajectories:
        amounts = [for_turn(turn) for turn in t.turns]
        turns = tuple(
            [replace(turn, reward=turn.reward + x) if x else turn for turn, x in zip(t.turns, amounts, strict=True)]
        )
        extra = math.fsum(amounts) + (for_player[t.player] if for_player else 0.0)
        trajectories.append(replace(t, reward=t.reward + extra, turns=turns) if any(amounts) or extra else t)
    return replace(episode, trajectories=tuple(trajectories))
