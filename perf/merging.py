"""Tokens that sharing and merging save, counted exactly: in the engine, and in the learner's batch."""

from __future__ import annotations

from collections.abc import Iterator

from perf.measure import Figure
from perf.parts import engine_tokens, make_parts, num_turns
from perf.stand_ins import Recorder, free_text
from spiral.learning.packing import pack
from spiral.learning.samples import merge

_TALK = ("games=simple_negotiation", "model=byte-0.1m", "model.args.context=2048", "rollout.episodes=32")
CASES = (
    ("kuhn", ("games=kuhn_poker", "model=byte-0.1m", "rollout.episodes=512"), 0.9, None),
    ("ttt", ("games=tic_tac_toe", "model=byte-0.1m", "rollout.episodes=512"), 0.9, None),
    ("negotiation", (*_TALK, "rollout.max_new_tokens=64", "rollout.retries=3"), 0.0, free_text),
)


def figures() -> Iterator[Figure]:
    """Two figures a game: tokens without any saving over tokens computed."""
    for name, overrides, legal, wrap in CASES:
        parts = make_parts(*overrides, legal=legal, wrap=wrap)
        recorder = Recorder(parts.engine)
        before = parts.engine.computed_tokens
        episodes = parts.rollouts(recorder).play(parts.config.rollout.episodes, (11,))
        computed = parts.engine.computed_tokens - before
        naive = engine_tokens(recorder.requests, recorder.replies)
        turns = num_turns(episodes)
        counts = {"turns": turns, "computed_tokens": computed, "tokens_without_sharing": naive}
        yield Figure(f"merge {name} engine", naive / computed, "x fewer tokens", detail=counts)
        trajectories = [t for e in episodes for t in e.trajectories]
        advantages = [[t.reward] * len(t.turns) for t in trajectories]
        batch = pack(trajectories, advantages, parts.config.learner.micro_batch_tokens)
        merged = merge(trajectories, advantages)
        plain = sum(len(s.prompt) + len(s.reply) for s in merged)
        yield Figure(
            f"merge {name} learner",
            batch.num_sequence_tokens / batch.num_computed_tokens,
            "x fewer tokens",
            detail={
                "turns": turns,
                "samples": len(merged),
                "tokens_without_saving": batch.num_sequence_tokens,
                "tokens_after_merging": plain,
                "tokens_computed": batch.num_computed_tokens,
            },
        )
