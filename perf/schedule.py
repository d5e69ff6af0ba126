"""Games a second without lock step, over the same engine and games in lock step.

In lock step every game in play waits until all have their reply. Free games take up rows as they fall free. Nothing
but the schedule differs: the same Rollouts, engine, seeds and replies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from perf.measure import Figure, alternate, median_cpu, ratios
from perf.parts import Ids, make_parts, num_turns
from perf.stand_ins import LockStep, Recorder, free_text
from spiral.api.records import Episode

MIXTURE = json.dumps([{"name": "simple_negotiation", "args": {"turns": turns}} for turns in (2, 6, 10)])
ROWS, GAMES, REPEATS = 32, 64, 2


def figures() -> Iterator[Figure]:
    """Matches of 2, 6 and 10 turns of an untrained model whose replies are 1 to 64 tokens long."""
    parts = make_parts(
        f"games={MIXTURE}",
        "model=byte-0.1m",
        "model.args.context=2048",
        f"engine.args.max_rows={ROWS}",
        f"rollout.max_concurrent={ROWS}",
        f"rollout.episodes={GAMES}",
        "rollout.max_new_tokens=64",
        "rollout.retries=3",
        wrap=free_text,
    )
    free, locked = Recorder(parts.engine), Recorder(parts.engine)
    plays = [parts.rollouts(free), parts.rollouts(LockStep(locked))]
    episodes = plays[0].play(GAMES, (5,))
    # Not `==`: log-probabilities differ by rounding with the batch that a text stood in.
    same = sum(_replies(a) == _replies(b) for a, b in zip(episodes, plays[1].play(GAMES, (5,)), strict=True))
    steps = {"free": free.num_steps, "lock_step": locked.num_steps}
    times = alternate([partial(p.play, GAMES, (5,)) for p in plays], REPEATS, warm_up=0)
    ratio = ratios(times[1], times[0])
    lengths = sorted(map(len, free.replies.values()))
    yield Figure(
        "schedule free over lock step",
        ratio["cpu"]["median"],
        "x games a second",
        detail={
            "ratio": ratio,
            "games_per_cpu_s": {n: GAMES / median_cpu(t) for n, t in zip(steps, times, strict=True)},
            "engine_steps": steps,
            "rows": ROWS,
            "games": GAMES,
            "turns": num_turns(episodes),
            "same_games": same / GAMES,
            "reply_tokens": {"min": lengths[0], "median": lengths[len(lengths) // 2], "max": lengths[-1]},
        },
    )


def _replies(episode: Episode) -> list[Ids]:
    return [turn.reply for trajectory in episode.trajectories for turn in trajectory.turns]
