"""Supervised updates of a warm start: the learner's log-likelihood of replies."""

from __future__ import annotations

from collections import Counter

import torch

from spiral.learning.objective import Objective
from spiral.learning.packing import pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import Sample

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
