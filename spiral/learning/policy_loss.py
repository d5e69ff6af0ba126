"""A micro-batch's forward pass, head and loss under a model, in one module: what is sharded over processes.

Where the logits of all trained tokens would be large, the head runs for a chunk of tokens at a time, and again in the
backward pass: what is kept between the two is one hidden state a token. That costs a head's forward more, a few percent
of a step of a model of billions of parameters, so a chunk is as large as memory allows without a thought. Liger's fused
linear losses do the same in one kernel, for fixed objectives of their own: none has the exact KL and entropy over the
vocabulary, the anchor, merged turns and importance weights at once, and they form the gradient in the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spiral.learning.loss import LossTerms, loss_terms
from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch
from spiral.learning.token_terms import TokenTerms, joined, token_terms
from spiral.models.logits import TokenLogits
from spiral.models.recomputation import decoder_layers, recomputed

MAX_LOGIT_BYTES = 256 << 20
"""Of the float32 logits of a chunk, of which up to five copies are alive at once: 441 tokens at a vocabulary of 152k,
where a GPU still computes longer than it reads the head, 1,365 at 49k, and more than a micro-batch at 261."""


class PolicyLoss(nn.Module):
    """Wraps `model`; parameters are the model's own."""

    def __init__(
        self,
        model: Any,
        max_logit_bytes: int = MAX_LOGIT_BYTES,
        checkpoint_activations: bool = False,
        autocast: bool = False,
    ) -> None:
        """`max_logit_bytes`: of a chunk's float32 logits. `autocast`: compute in bfloat16 over float32 weights.

        Not over a copy of them in bfloat16, whose gradients would be too: autocast adds up those of micro-batches in
        float32, and casts each weight once a pass. Raises SpiralError for a model whose layers cannot be found, where
        activations are to be computed again.
        """
        super().__init__()
        self._lm = TokenLogits(model)
        self._max_logit_bytes = max_logit_bytes
        # A tuple: modules of a list would be this module's a second time.
        self._recomputed = decoder_layers(model) if checkpoint_activations else ()
        self._autocast = autocast

    def forward(
        self,
        batch: MicroBatch,
        weights: Objective,
        reference: TokenLogits | None = None,
        initial: TokenLogits | None = None,
        old: Tensor | None = None,
    ) -> LossTerms:
        """The sums of `loss_terms` over a micro-batch. `reference`, `initial`: the models of the KL term and of the
        anchor, which have no gradient. `old`: (N,), the log-probabilities before the update's first step."""
        device = batch.ids.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._autocast), recomputed(self._recomputed):
            tokens = self._token_terms(batch, weights, reference, initial)
        return loss_terms(tokens, batch, weights, old)

    def _token_terms(
        self, batch: MicroBatch, weights: Objective, reference: TokenLogits | None, initial: TokenLogits | None
    ) -> TokenTerms:
        with torch.no_grad():
            others = [None if lm is None else _States.of(lm, batch) for lm in (reference, initial)]
        live = _States.of(self._lm, batch)
        chunks = self._chunks(batch)
        compute = partial(_chunk_terms, batch, weights, live, others)
        if len(chunks) == 1 or not torch.is_grad_enabled():
            return joined([compute(chunk) for chunk in chunks])
        # Nothing random is computed there, so the generators' state need not be kept.
        again = partial(checkpoint, compute, use_reentrant=False, preserve_rng_state=False)
        return joined([again(chunk) for chunk in chunks])

    def _chunks(self, batch: MicroBatch) -> list[_Chunk]:
        """The trained tokens in as few chunks as the limit allows, of equal size but for one token."""
        num_tokens, num_anchors = len(batch.targets), len(batch.anchored)
        most = max(1, self._max_logit_bytes // (4 * self._lm.vocabulary))
        num = max(1, -(-num_tokens // most))
        if num == 1:
            return [_Chunk(slice(0, num_tokens), slice(0, num_anchors))]
        ends = torch.tensor([num_tokens * n // num for n in range(num + 1)], device=batch.anchored.device)
        anchor_ends = torch.searchsorted(batch.anchored, ends)
        return [
            _Chunk(slice(*tokens), slice(*anchors))
            for tokens, anchors in zip(pairwise(ends.tolist()), pairwise(anchor_ends.tolist()), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Trained tokens that follow each other, and their entries of the anchor to random legal play."""

    tokens: slice
    anchors: slice


@dataclass(frozen=True, slots=True)
class _States:
    """What a model computed for the trained tokens of a micro-batch, its head left out where it can be."""

    lm: TokenLogits
    values: Tensor
    """(N, H) hidden states, or (N, V) logits of a model that only gives those."""

    @classmethod
    def of(cls, lm: TokenLogits, batch: MicroBatch) -> _States:
        compute = lm.hidden if lm.splits_head else lm
        return cls(lm, compute(batch.ids, batch.positions, batch.mask, batch.rows, batch.columns))

    def logits(self, tokens: slice) -> Tensor:
        values = self.values[tokens]
        return self.lm.head(values) if self.lm.splits_head else values


def _chunk_terms(
    batch: MicroBatch, weights: Objective, live: _States, others: Sequence[_States | None], chunk: _Chunk
) -> TokenTerms:
    """The terms of a chunk's tokens. `others`: the reference and the initial model."""
    with torch.no_grad():
        reference, initial = (None if states is None else states.logits(chunk.tokens) for states in others)
    return token_terms(
        live.logits(chunk.tokens),
        batch.targets[chunk.tokens],
        batch.anchored[chunk.anchors] - chunk.tokens.start,
        batch.anchor_ids[chunk.anchors],
        weights,
        reference,
        initial,
    )
