"""Supervised updates of a warm start: the learner's log-likelihood of replies, and the phase's dropout schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from spiral.api.errors import SpiralError
from spiral.learning.objective import Objective
from spiral.learning.packing import pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import Sample
from spiral.seeds import derive

Example = tuple[tuple[int, ...], tuple[int, ...]]
"""(prompt ids, reply ids, the stop id included)"""

MAX_GRAD_NORM = 1.0

LIKELIHOOD = Objective(likelihood=True)
"""Of the learner too, where it is trained on games of other policies."""


def likelihood_step(
    loss: PolicyLoss, optimizer: torch.optim.Optimizer, examples: Counter[Example], micro_batch_tokens: int
) -> None:
    """One optimiser step on the mean over examples of the replies' log-likelihood, nats summed over tokens.

    `examples`: how often each one counts; equal ones are computed once. `micro_batch_tokens`: tokens of a forward pass,
    which bound memory and change the result by rounding only.
    """
    # An example that counts n times is n turns with an advantage of 1.
    samples = [Sample(p, r, (0.0,) * len(r), positive=n, count=n) for (p, r), n in sorted(examples.items())]
    for micro_batch in pack_samples(samples, micro_batch_tokens):
        terms = loss(micro_batch.to(loss.device), LIKELIHOOD)
        (-terms.objective / examples.total()).backward()
    torch.nn.utils.clip_grad_norm_(loss.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad()


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
