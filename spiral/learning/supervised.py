"""Supervised updates: token cross-entropy on given replies, and the dropout schedule of a supervised phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.learning.chunked_head import MAX_LOGIT_BYTES, Chunk, States, chunks, computed
from spiral.learning.packing import MicroBatch, pack_samples
from spiral.learning.samples import Sample
from spiral.models.logits import TokenLogits
from spiral.seeds import derive

Example = tuple[tuple[int, ...], tuple[int, ...]]
"""(prompt ids, reply ids, the stop id included)"""

MAX_GRAD_NORM = 1.0


def cross_entropy_step(
    lm: TokenLogits,
    optimizer: torch.optim.Optimizer,
    examples: Counter[Example],
    micro_batch_tokens: int,
    max_logit_bytes: int = MAX_LOGIT_BYTES,
) -> None:
    """One optimiser step on the mean over examples of the replies' negative log-likelihood, nats summed over tokens.

    `examples`: how often each one counts; equal ones are computed once. `micro_batch_tokens`: tokens of a forward pass,
    `max_logit_bytes`: of the float32 logits that are in memory at once; they bound memory and change the result by
    rounding only.
    """
    samples = [Sample(p, r, (0.0,) * len(r), count=examples[p, r]) for p, r in sorted(examples)]
    for cpu_batch in pack_samples(samples, micro_batch_tokens):
        micro = cpu_batch.to(lm.model.device)
        compute = partial(_chunk_nll, micro, States.of(lm, micro))
        nll = torch.cat(computed(compute, chunks(micro, lm.vocabulary, max_logit_bytes)))
        ((micro.count * nll).sum() / examples.total()).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(lm.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad()


def _chunk_nll(batch: MicroBatch, states: States, chunk: Chunk) -> Tensor:
    """The negative log-likelihood of each token of a chunk, in float32."""
    logits, targets = states.logits(chunk.tokens), batch.targets[chunk.tokens]
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def dropout_rate(points: Sequence[tuple[float, float]], fraction: float) -> float:
    """The rate at a fraction of the phase: linear between (fraction, rate) points, constant outside them."""
    if not points:
        return 0.0
    before = [p for p in points if p[0] <= fraction] or [points[0]]
    after = [p for p in points if p[0] >= fraction] or [points[-1]]
    (x0, y0), (x1, y1) = before[-1], after[0]
    return y0 if x1 <= x0 else y0 + (y1 - y0) * (fraction - x0) / (x1 - x0)


def check_dropout(model: Any, points: Sequence[tuple[float, float]]) -> None:
    """Raise SpiralError for a schedule that the model cannot follow."""
    if points and not hasattr(model, "set_dropout"):
        raise SpiralError("warm_start.dropout is set, and this model has no set_dropout(rate); leave it empty")


def set_dropout(model: Any, points: Sequence[tuple[float, float]], fraction: float, seed: int, update: int) -> None:
    """Put the model into the training mode of this update; what is dropped is a function of `seed` and `update`."""
    rate = dropout_rate(points, fraction)
    if rate > 0:
        torch.manual_seed(derive(seed, "warm_start", "dropout", update))
        model.set_dropout(rate)
        model.train()
