"""A micro-batch's forward pass, head and loss under a model, in one module: what is sharded over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spiral.learning.loss import LossTerms, loss_terms
from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch
from spiral.models.logits import TokenLogits


class PolicyLoss(nn.Module):
    """Wraps `model`; parameters are the model's own."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._lm = TokenLogits(model)

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
        with torch.no_grad():
            held, start = (None if lm is None else _logits(lm, batch) for lm in (reference, initial))
        return loss_terms(_logits(self._lm, batch), batch, weights, held, start, old)


def _logits(lm: TokenLogits, batch: MicroBatch) -> Tensor:
    logits: Tensor = lm(batch.ids, batch.positions, batch.mask, batch.rows, batch.columns)
    return logits
