"""The objective of one forward pass, as sums over trained tokens; the caller divides by a constant.

Sums and a constant, never means over what a micro-batch happens to hold: so the gradient is the same however the
batch is packed, cut or spread over processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spiral.learning.packing import MicroBatch


@dataclass(frozen=True, slots=True)
class Objective:
    """What is maximised beside the return, by weight; a term without weight is measured only."""

    clip: float | None = None
    """PPO's epsilon; None leaves the ratio unclipped."""
    entropy: float = 0.0
    kl: float = 0.0
    """Of KL(policy || reference)."""
    anchor: float = 0.0
    """Of KL(anchor || policy)."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Scalars summed over turns' tokens, in nats where they are entropies."""

    objective: Tensor
    """What is maximised: the surrogate, with the other terms at their weights."""
    surrogate: Tensor
    entropy: Tensor
    kl: Tensor
    """KL(policy || reference); 0 without a reference."""
    anchor: Tensor
    """KL(anchor || policy); 0 at tokens without an anchor."""
    anchored: Tensor
    """Turns' tokens with an anchor."""
    clipped: Tensor
    """Turns' tokens whose ratio the clip cut off."""
    gap: Tensor
    """Largest |log-probability now - log-probability at sampling|."""


def loss_terms(
    logits: Tensor,
    batch: MicroBatch,
    weights: Objective,
    reference: Tensor | None = None,
    initial: Tensor | None = None,
) -> LossTerms:
    """PPO's clipped surrogate (Schulman et al. 2017) with merged samples, plus entropy and KL over the vocabulary.

    `logits`, `reference`, `initial`: (N, V). At a ratio of 1 the surrogate's gradient is REINFORCE's, sum of
    A grad log pi. For a token that stands for several turns, min(r A, clip(r) A) summed over turns is
    P min(r, 1 + eps) + Q max(r, 1 - eps), with P and Q the sums of the positive and the negative advantages, so merging
    changes nothing.

    The KL to a reference that moves slowly is the magnet of magnetic mirror descent (Sokota et al. 2023, arXiv
    2206.05825), without which self-play cycles. It is taken exactly, over the vocabulary at each sampled token.

    The anchor is the policy of `initial`, or random legal play where that is None and the batch knows it. The gradient
    of its KL in the logits is pi - anchor. That of the surrogate and of the magnet is proportional to pi(a), so a move
    whose probability fell to nothing has no gradient to come back by, and is never sampled; here it has one. The same
    reason led NeuRD to update logits (Hennes et al. 2020, arXiv 1906.00190).
    """
    all_logprobs = torch.log_softmax(logits.float(), -1)
    logprobs = all_logprobs.gather(-1, batch.targets[:, None])[:, 0]
    ratio = (logprobs - batch.logprobs).exp()
    up, down = ratio, ratio
    if weights.clip is not None:
        up, down = ratio.clamp(max=1 + weights.clip), ratio.clamp(min=1 - weights.clip)
    surrogate = (batch.positive * up + batch.negative * down).sum()
    # What has no weight is measured only: its gradient would be computed in full and multiplied by 0.
    with torch.set_grad_enabled(torch.is_grad_enabled() and weights.entropy != 0):
        entropy = -(batch.count * (all_logprobs.exp() * all_logprobs).sum(-1)).sum()
    kl = logits.new_zeros(())
    if reference is not None:
        gap_to_reference = all_logprobs - torch.log_softmax(reference.float(), -1)
        kl = (batch.count * (all_logprobs.exp() * gap_to_reference).sum(-1)).sum()
    with torch.set_grad_enabled(torch.is_grad_enabled() and weights.anchor != 0):
        anchor, anchored = _anchor_kl(all_logprobs, batch, initial)
    with torch.no_grad():
        cut_off = ((batch.positive > 0) & (up != ratio)) | ((batch.negative < 0) & (down != ratio))
        clipped = (batch.count * cut_off).sum()
        gap = (logprobs - batch.logprobs).abs().max()
    objective = surrogate + weights.entropy * entropy - weights.kl * kl - weights.anchor * anchor
    return LossTerms(
        objective, surrogate.detach(), entropy.detach(), kl.detach(), anchor.detach(), anchored, clipped, gap
    )


def _anchor_kl(logprobs: Tensor, batch: MicroBatch, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    """KL(anchor || policy), summed over turns' tokens, and their number; `logprobs`, `initial`: (N, V)."""
    if initial is not None:
        anchor = torch.log_softmax(initial.float(), -1)
        return (batch.count * (anchor.exp() * (anchor - logprobs)).sum(-1)).sum(), batch.count.sum()
    probs = batch.anchor_probs
    gaps = probs * (probs.log() - logprobs[batch.anchored, batch.anchor_ids])
    return (batch.count[batch.anchored] * gaps).sum(), batch.count[torch.unique_consecutive(batch.anchored)].sum()
