"""What the objective asks of a token's distribution over the vocabulary, one number a token each.

Apart from the objective, so that the head and these numbers can be computed for a few tokens at a time: logits of a
large vocabulary are then never whole in memory, and whatever weighs tokens sees only (N,).

N trained tokens, V vocabulary, M entries of the anchor to random legal play.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from spiral.learning.objective import Objective


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """Nats. What has no weight in the objective has no gradient."""

    logprobs: Tensor
    """(N,) of the trained ids."""
    entropy: Tensor
    """(N,)"""
    kl: Tensor | None
    """(N,) KL(policy || reference); None without a reference."""
    anchor_kl: Tensor | None
    """(N,) KL(initial || policy); None without the initial policy."""
    anchor_logprobs: Tensor
    """(M,) of the ids that random legal play could say, in the order of the micro-batch's."""


def token_terms(
    logits: Tensor,
    targets: Tensor,
    places: Tensor,
    anchor_ids: Tensor,
    weights: Objective,
    reference: Tensor | None = None,
    initial: Tensor | None = None,
) -> TokenTerms:
    """`logits`, `reference`, `initial`: (N, V). `targets`: (N,). `places`, `anchor_ids`: (M,), tokens among the N, and
    ids of the vocabulary. In float32, whatever the model computes in."""
    all_logprobs = torch.log_softmax(logits.float(), -1)
    logprobs = all_logprobs.gather(-1, targets[:, None])[:, 0]
    kl = None
    if reference is not None:
        gap_to_reference = all_logprobs - torch.log_softmax(reference.float(), -1)
        kl = (all_logprobs.exp() * gap_to_reference).sum(-1)
    # What has no weight is measured only: its gradient would be computed in full and multiplied by 0. It comes last,
    # since a chunk's second computation stops at the last number that a gradient needs.
    with torch.set_grad_enabled(torch.is_grad_enabled() and weights.anchor != 0):
        anchor_kl = None
        if initial is not None:
            anchor = torch.log_softmax(initial.float(), -1)
            anchor_kl = (anchor.exp() * (anchor - all_logprobs)).sum(-1)
        anchor_logprobs = all_logprobs[places, anchor_ids]
    with torch.set_grad_enabled(torch.is_grad_enabled() and weights.entropy != 0):
        entropy = -(all_logprobs.exp() * all_logprobs).sum(-1)
    return TokenTerms(logprobs, entropy, kl, anchor_kl, anchor_logprobs)


def joined(parts: Sequence[TokenTerms]) -> TokenTerms:
    """The terms of tokens that follow each other."""
    if len(parts) == 1:
        return parts[0]
    together = [[getattr(part, field.name) for part in parts] for field in fields(TokenTerms)]
    return TokenTerms(*(None if values[0] is None else torch.cat(values) for values in together))  # type: ignore[arg-type]
