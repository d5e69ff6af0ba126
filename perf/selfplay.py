"""R1: self-play against the engine alone, fed the very prompts of that self-play at once.

Two things can part them: the framework's own work, and that games ask one turn at a time while the engine alone sees
all prompts at once, so its batches are fuller and equal prompts of different turns share rows. The salted variants,
in which no two prompts are equal, and `framework_share` tell the two apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from perf.measure import Figure, Timing, median_cpu, ratios, spread, timed
from perf.parts import Parts, drain, engine_tokens, make_parts, num_turns
from perf.stand_ins import Recorder, Salted, free_text
from spiral.api.records import Episode
from spiral.selfplay.rollouts import Rollouts

TARGET = 0.9


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    overrides: tuple[str, ...]
    repeats: int = 5
    legal: float = 0.9
    wrap: Any = None


_KUHN, _TTT = "games=kuhn_poker", "games=tic_tac_toe"
_TALK = ("games=simple_negotiation", "model=byte-1m", "model.args.context=2048", "rollout.max_new_tokens=64")
CASES = (
    Case("kuhn/0.1m", (_KUHN, "model=byte-0.1m", "rollout.episodes=512"), 7),
    Case("ttt/0.1m", (_TTT, "model=byte-0.1m", "rollout.episodes=512")),
    Case("ttt/1m", (_TTT, "model=byte-1m", "rollout.episodes=128"), 3),
    Case("kuhn/0.1m/salted", (_KUHN, "model=byte-0.1m", "rollout.episodes=512"), wrap=Salted),
    Case("ttt/0.1m/salted", (_TTT, "model=byte-0.1m", "rollout.episodes=256"), wrap=Salted),
    Case("negotiation/1m", (*_TALK, "rollout.episodes=16", "rollout.retries=3"), 3, legal=0.0, wrap=free_text),
)


def figures() -> Iterator[Figure]:
    """One figure a case."""
    for case in CASES:
        parts = make_parts(*case.overrides, wrap=case.wrap, legal=case.legal)
        yield _compare(case, parts)


def _compare(case: Case, parts: Parts) -> Figure:
    recorder = Recorder(parts.engine)
    rollouts = parts.rollouts(recorder)
    plays: list[Timing] = []
    alone: list[Timing] = []
    shares: list[float] = []
    counts: dict[str, float] = {}
    for repeat in range(case.repeats + 1):
        recorder.clear()
        parts.reload()
        computed = [parts.engine.computed_tokens]
        episodes: list[Episode] = []
        play = timed(partial(_play, rollouts, parts.config.rollout.episodes, repeat, episodes))
        computed.append(parts.engine.computed_tokens)
        parts.reload()
        again = Recorder(parts.engine)
        raw = timed(partial(drain, again, recorder.requests))
        computed.append(parts.engine.computed_tokens)
        if repeat == 0:
            continue  # the first time buffers grow and prompts are encoded
        plays.append(play)
        alone.append(raw)
        in_engine = recorder.step_cpu + max(0.0, raw.cpu - again.step_cpu)
        shares.append(1 - in_engine / play.cpu)
        counts = _counts(recorder, again, num_turns(episodes), len(episodes), computed)
    ratio = ratios(alone, plays)
    tokens = counts["sampled_tokens"]
    return Figure(
        f"R1 {case.name}",
        ratio["cpu"]["median"],
        "x engine alone",
        TARGET,
        detail={
            "ratio": ratio,
            "tokens_per_cpu_s": {"self_play": tokens / median_cpu(plays), "engine": tokens / median_cpu(alone)},
            "framework_share": spread(shares),
            "framework_us_a_turn": 1e6 * statistics.median(shares) * median_cpu(plays) / counts["turns"],
            "last_repeat": counts,
        },
    )


def _play(rollouts: Rollouts, games: int, repeat: int, episodes: list[Episode]) -> None:
    episodes += rollouts.play(games, (7, repeat))


def _counts(play: Recorder, alone: Recorder, turns: int, games: int, computed: list[int]) -> dict[str, float]:
    """Exact counts; `same_replies` is 1 when both sampled the same ids, as the engine promises."""
    return {
        "games": games,
        "turns": turns,
        "sampled_tokens": sum(map(len, play.replies.values())),
        "computed_tokens_self_play": computed[1] - computed[0],
        "computed_tokens_engine": computed[2] - computed[1],
        "tokens_without_sharing": engine_tokens(play.requests, play.replies),
        "distinct_prompts": len({r.prompt for r in play.requests}),
        "engine_steps_self_play": play.num_steps,
        "engine_steps_engine": alone.num_steps,
        "same_replies": sum(alone.replies[i] == ids for i, ids in play.replies.items()) / len(play.replies),
    }
