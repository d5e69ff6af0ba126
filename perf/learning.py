"""R2: the learner's update against a bare training loop, and against one padded row a turn without merging.

The batches are those of real self-play. The bare loop gets the learner's own packed tensors ready-made and does
forward, backward and AdamW only; the naive one gets its padded rows ready-made too, computes logits only where they
are trained, and sorts rows by length. Weights hardly move (a tiny learning rate), so every repetition does the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator

from perf.measure import Figure, Timing, alternate, median_cpu, ratios
from perf.parts import Parts, make_parts
from spiral.api.records import Trajectory
from spiral.config.schema import LearnerConfig
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import MicroBatch, pack, pack_samples
from spiral.learning.samples import Sample, merge
from spiral.models.logits import TokenLogits

BARE_TARGET, NAIVE_TARGET = 0.9, 5.0
SETTINGS = LearnerConfig(lr=1e-9, kl=0.0, clip=None, ratio_tolerance=1e-2)
CASES = (
    ("kuhn/0.1m", ("games=kuhn_poker", "model=byte-0.1m", "rollout.episodes=512"), 7),
    ("ttt/0.1m", ("games=tic_tac_toe", "model=byte-0.1m", "rollout.episodes=512"), 3),
    ("ttt/1m", ("games=tic_tac_toe", "model=byte-1m", "rollout.episodes=128"), 2),
)


def figures() -> Iterator[Figure]:
    """Two figures a case."""
    for name, overrides, repeats in CASES:
        parts = make_parts(*overrides, legal=0.9)
        yield from _compare(name, parts, repeats)


def _compare(name: str, parts: Parts, repeats: int) -> Iterator[Figure]:
    games = parts.config.rollout.episodes
    episodes = parts.rollouts().play(games, (3,))
    trajectories = [t for e in episodes for t in e.trajectories]
    advantages = [[t.reward] * len(t.turns) for t in trajectories]
    learner = FullLearner(copy.deepcopy(parts.setup.model), SETTINGS, 1000, Accelerator())
    limit = SETTINGS.micro_batch_tokens
    batch = pack(trajectories, advantages, limit)
    naive_batches = padded(trajectories, advantages, limit)

    def update() -> None:
        learner.update(pack(trajectories, advantages, limit), 0, games)

    works = (
        update,
        lambda: pack(trajectories, advantages, limit),
        bare_loop(parts.setup.model, batch.micro_batches, games),
        bare_loop(parts.setup.model, naive_batches, games),
    )
    whole, packing, bare, naive = alternate(works, repeats)
    detail = {
        "turns": batch.num_turns,
        "samples": len(merge(trajectories, advantages)),
        "micro_batches": len(batch.micro_batches),
        "packed": batch.micro_batches[0].mask is not None,
        "computed_tokens": batch.num_computed_tokens,
        "computed_tokens_naive": sum(b.ids.numel() for b in naive_batches),
        "cpu_ms": {n: 1e3 * median_cpu(t) for n, t in _named(whole, packing, bare, naive)},
    }
    ratio = ratios(bare, whole)
    without = ratios(bare, [Timing(w.cpu - p.cpu, w.wall - p.wall) for w, p in zip(whole, packing, strict=True)])
    detail_bare = {**detail, "ratio": ratio, "ratio_without_packing": without["cpu"]}
    yield Figure(f"R2 {name} over bare", ratio["cpu"]["median"], "x bare loop", BARE_TARGET, detail=detail_bare)
    ratio = ratios(naive, whole)
    detail_naive = {**detail, "ratio": ratio}
    yield Figure(f"R2 {name} over padded", ratio["cpu"]["median"], "x padded rows", NAIVE_TARGET, detail=detail_naive)


def _named(*rows: Sequence[Timing]) -> Iterator[tuple[str, Sequence[Timing]]]:
    return zip(("update", "pack", "bare", "naive"), rows, strict=True)


def bare_loop(model: Any, micro_batches: Sequence[MicroBatch], games: int) -> Callable[[], None]:
    """Forward, policy-gradient loss, backward and AdamW over tensors that are ready."""
    model = copy.deepcopy(model).requires_grad_(True)
    lm = TokenLogits(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.lr, betas=(0.9, 0.95), weight_decay=0.0, foreach=True)

    def run() -> None:
        for batch in micro_batches:
            logits = lm(batch.ids, batch.positions, batch.mask, batch.rows, batch.columns)
            logprobs = torch.log_softmax(logits, -1).gather(-1, batch.targets[:, None])[:, 0]
            loss = -((batch.positive + batch.negative) * logprobs).sum() / games
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return run


def padded(
    trajectories: Sequence[Trajectory], advantages: Sequence[Sequence[float]], limit: int
) -> tuple[MicroBatch, ...]:
    """One row a turn, shortest first, padded on the right."""
    turns = [(t, a) for trajectory, row in zip(trajectories, advantages, strict=True)
             for t, a in zip(trajectory.turns, row, strict=True) if t.reply]  # fmt: skip
    turns.sort(key=lambda pair: len(pair[0].prompt) + len(pair[0].reply))
    out: list[MicroBatch] = []
    rows: list[MicroBatch] = []
    for turn, advantage in turns:
        sample = Sample(turn.prompt, turn.reply, turn.logprobs, max(advantage, 0.0), min(advantage, 0.0), 1)
        row = pack_samples([sample], limit)[0]
        if rows and row.ids.shape[1] * (len(rows) + 1) > limit:
            out.append(_stack(rows))
            rows = []
        rows.append(row)
    return (*out, _stack(rows))


def _stack(rows: Sequence[MicroBatch]) -> MicroBatch:
    """Single rows as one micro-batch."""
    width = max(r.ids.shape[1] for r in rows)

    def wide(tensor: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))

    joined = {
        name: torch.cat([getattr(r, name) for r in rows])
        for name in ("columns", "targets", "logprobs", "positive", "negative", "count", "samples")
    }
    return replace(
        rows[0],
        ids=torch.cat([wide(r.ids) for r in rows]),
        positions=torch.cat([wide(r.positions) for r in rows]),
        rows=torch.cat([r.rows + n for n, r in enumerate(rows)]),
        **joined,
    )
