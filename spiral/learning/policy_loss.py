"""A micro-batch's forward pass, head and loss under a model, in one module: what is sharded over processes.

The head runs in chunks of tokens, see `chunked_head`. Liger's fused linear losses do the same in one kernel, for fixed
objectives of their own: none has the exact KL and entropy over the vocabulary, the anchor, merged turns and importance
weights at once, and they form the gradient in the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spiral.learning.chunked_head import MAX_LOGIT_BYTES, Chunk, States, chunks, computed
from spiral.learning.loss import LossTerms, loss_terms
from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch
from spiral.learning.token_terms import TokenTerms, joined, token_terms
from spiral.models.logits import TokenLogits
from spiral.models.recomputation import decoder_layers, recomputed


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

    @property
    def device(self) -> torch.device:
        """Where a micro-batch has to be."""
        found: torch.device = self._lm.model.device
        return found

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
            others = [None if lm is None else States.of(lm, batch) for lm in (reference, initial)]
        live = States.of(self._lm, batch)
        compute = partial(_chunk_terms, batch, weights, live, others)
        return joined(computed(compute, chunks(batch, self._lm.vocabulary, self._max_logit_bytes)))


def _chunk_terms(
    batch: MicroBatch, weights: Objective, live: States, others: Sequence[States | None], chunk: Chunk
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
