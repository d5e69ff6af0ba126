"""Games a second against a pool of eight snapshots and a bot, over mirror self-play: same model, engine and games.

Snapshots are decoded policy by policy, so their batches are smaller, and fewer prompts are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from perf.measure import Figure, alternate, ratios
from perf.parts import Table, num_turns, table
from spiral.config import loading as config
from spiral.models.logits import parameters
from spiral.policies.pool import snapshot_id
from spiral.selfplay import setup as assemble
from spiral.selfplay.rollouts import Rollouts

SNAPSHOTS, REPEATS, NOISE = 8, 5, 0.02
SAMPLERS = ("uniform_past", "pfsp")


def figures() -> Iterator[Figure]:
    """A model that has learnt the format, and snapshots that differ from it by a little noise."""
    cases = (
        ("tic-tac-toe, byte-0.1m", ("games=tic_tac_toe",), 512),
        ("tic-tac-toe, byte-1m", ("games=tic_tac_toe", "model=byte-1m"), 128),
        ("Kuhn, byte-0.1m", (), 512),
    )
    for name, words, games in cases:
        overrides = [*words, "rollout.max_new_tokens=8", f"rollout.episodes={games}"]
        made = table(*overrides, legal=0.97)
        _fill(made)
        plays = {sampler: _rollouts(made, overrides, sampler) for sampler in ("mirror", *SAMPLERS)}
        turns = {sampler: num_turns(play.play(games, (7,))) for sampler, play in plays.items()}
        times = alternate([partial(play.play, games, (5,)) for play in plays.values()], REPEATS)
        for index, sampler in enumerate(SAMPLERS, 1):
            ratio = ratios(times[0], times[index])
            yield Figure(
                f"pool of {SNAPSHOTS} {sampler}, {name}",
                ratio["cpu"]["median"],
                "x games/s of mirror",
                target=0.7,
                detail={"ratio": ratio, "games": games, "turns": turns[sampler], "mirror_turns": turns["mirror"]},
            )


def _fill(made: Table) -> None:
    """Put the snapshots and the bot into the pool, and their weights into the engine."""
    pool, weights = made.players.pool, parameters(made.players.model)
    generator = torch.Generator().manual_seed(0)
    for step in range(SNAPSHOTS):
        noise = {n: torch.randn(w.shape, generator=generator) * w.std() * NOISE for n, w in weights.items()}
        made.engine.load_weights(snapshot_id(step), {n: w + noise[n] for n, w in weights.items()}, step)
        pool.add_snapshot(step, SNAPSHOTS, "last")
    pool.add_member(pool.bot("random"))


def _rollouts(made: Table, overrides: list[str], sampler: str) -> Rollouts:
    asked = config.load(None, [*overrides, f"opponents={sampler}"])
    p, trainers = made.players, assemble.trainers(asked, made.plugins)
    return Rollouts(p.games, trainers.curriculum, trainers.opponents, p.pool, p.engine, p.prompter, asked.rollout)
