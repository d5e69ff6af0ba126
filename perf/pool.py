"""Games a second against a pool of eight snapshots and a bot, over mirror self-play: same model, engine and games.

Snapshots are decoded in one pass with the learner, each row with its own weights; fewer prompts are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from perf.measure import Figure, alternate, ratios
from perf.parts import Parts, make_parts, num_turns
from spiral.config import loading
from spiral.models.logits import parameters
from spiral.policies.pool import snapshot_id
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import make_training_setup

SNAPSHOTS, REPEATS, NOISE = 8, 5, 0.02
SAMPLERS = ("uniform_past", "pfsp")


def figures() -> Iterator[Figure]:
    """A model that has learnt the format, and snapshots that differ from it by a little noise."""
    cases = (
        ("tic-tac-toe, byte-0.1m", ("games=tic_tac_toe",), 512, 0.75),
        ("tic-tac-toe, byte-1m", ("games=tic_tac_toe", "model=byte-1m"), 128, 0.75),
        ("Kuhn, byte-0.1m", (), 512, 0.5),
    )
    for name, words, games, target in cases:
        overrides = [*words, "rollout.max_new_tokens=8", f"rollout.episodes={games}"]
        parts = make_parts(*overrides, legal=0.97)
        _fill(parts)
        plays = {sampler: _rollouts(parts, overrides, sampler) for sampler in ("mirror", *SAMPLERS)}
        turns = {sampler: num_turns(play.play(games, (7,))) for sampler, play in plays.items()}
        times = alternate([partial(play.play, games, (5,)) for play in plays.values()], REPEATS)
        for index, sampler in enumerate(SAMPLERS, 1):
            ratio = ratios(times[0], times[index])
            yield Figure(
                f"pool of {SNAPSHOTS} {sampler}, {name}",
                ratio["cpu"]["median"],
                "x games/s of mirror",
                target=target,
                detail={"ratio": ratio, "games": games, "turns": turns[sampler], "mirror_turns": turns["mirror"]},
            )


def _fill(parts: Parts) -> None:
    """Put the snapshots and the bot into the pool, and their weights into the engine."""
    pool, weights = parts.setup.pool, parameters(parts.setup.model)
    generator = torch.Generator().manual_seed(0)
    for step in range(SNAPSHOTS):
        noise = {n: torch.randn(w.shape, generator=generator) * w.std() * NOISE for n, w in weights.items()}
        parts.engine.load_weights(snapshot_id(step), {n: w + noise[n] for n, w in weights.items()}, step)
        pool.add_snapshot(step, SNAPSHOTS, "last")
    pool.add_member(pool.bot("random"))


def _rollouts(parts: Parts, overrides: list[str], sampler: str) -> Rollouts:
    config = loading.load(None, [*overrides, f"opponents={sampler}"])
    setup, training = parts.setup, make_training_setup(config, parts.plugins)
    return Rollouts(setup.games, training.curriculum, training.opponents, setup.pool, config.rollout)
