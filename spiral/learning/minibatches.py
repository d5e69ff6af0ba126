"""Which trajectories of a step go into which minibatch: an optimiser step each.

By trajectories, and before equal replies are merged: a transcript is never cut, and each minibatch is a random sample
of what was played, which one of merged replies, each of which may stand for a hundred turns, would not be.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from spiral.api.records import Trajectory


def draw_minibatches(trajectories: Sequence[Trajectory], num: int, seed: int) -> list[list[int]]:
    """The places in `trajectories` of each of `num` parts of like size; fewer parts where fewer have a trained turn.

    The draw is of the whole step and depends on `seed` alone, so all processes make the same one.
    """
    if num == 1:
        return [list(range(len(trajectories)))]
    places = [place for place, t in enumerate(trajectories) if any(turn.trained and turn.reply for turn in t.turns)]
    random.Random(seed).shuffle(places)
    return [sorted(part) for part in (places[start::num] for start in range(num)) if part] or [[]]
