"""A model's head over the trained tokens of a micro-batch, a chunk of them at a time, so that logits of a large
vocabulary are never whole in memory.

What is computed of a chunk's logits is computed again in the backward pass: kept between the two is one hidden state a
token. That costs a head's forward more, a few percent of a step of a model of billions of parameters, so a chunk is as
large as memory allows without a thought.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spiral.learning.packing import MicroBatch
from spiral.models.attention import row_mask
from spiral.models.logits import TokenLogits

T = TypeVar("T")

MAX_LOGIT_BYTES = 256 << 20
"""Of the float32 logits of a chunk, of which up to five copies are alive at once: 441 tokens at a vocabulary of 152k,
where a GPU still computes longer than it reads the head, 1,365 at 49k, and more than a micro-batch at 261."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Trained tokens that follow each other, and their entries of the anchor to random legal play."""

    tokens: slice
    anchors: slice


@dataclass(frozen=True, slots=True)
class States:
    """What a model computed for the trained tokens of a micro-batch, its head left out where it can be."""

    lm: TokenLogits
    values: Tensor
    """(N, H) hidden states, or (N, V) logits of a model that only gives those."""

    @classmethod
    def of(cls, lm: TokenLogits, batch: MicroBatch) -> States:
        """The model's forward pass over a micro-batch."""
        mask = batch.mask if batch.last is None else row_mask(lm.model, batch.last, batch.bounds)
        compute = lm.hidden if lm.splits_head else lm
        return cls(lm, compute(batch.ids, batch.positions, mask, batch.rows, batch.columns))

    def logits(self, tokens: slice) -> Tensor:
        """Of a chunk's tokens, over the vocabulary."""
        values = self.values[tokens]
        return self.lm.head(values) if self.lm.splits_head else values


def chunks(batch: MicroBatch, vocabulary: int, max_logit_bytes: int) -> list[Chunk]:
    """The trained tokens in as few chunks as the limit of their float32 logits allows, of equal size but for one
    token."""
    num_tokens, num_anchors = len(batch.targets), len(batch.anchored)
    most = max(1, max_logit_bytes // (4 * vocabulary))
    num = max(1, -(-num_tokens // most))
    if num == 1:
        return [Chunk(slice(0, num_tokens), slice(0, num_anchors))]
    ends = torch.tensor([num_tokens * n // num for n in range(num + 1)], device=batch.anchored.device)
    anchor_ends = torch.searchsorted(batch.anchored, ends)
    return [
        Chunk(slice(*tokens), slice(*anchors))
        for tokens, anchors in zip(pairwise(ends.tolist()), pairwise(anchor_ends.tolist()), strict=True)
    ]


def computed(compute: Callable[[Chunk], T], of: Sequence[Chunk]) -> list[T]:
    """`compute` of each chunk, and of several chunks again in the backward pass; it draws nothing at random."""
    if len(of) == 1 or not torch.is_grad_enabled():
        return [compute(chunk) for chunk in of]
    again = partial(checkpoint, compute, use_reentrant=False, preserve_rng_state=False)
    return [again(chunk) for chunk in of]
