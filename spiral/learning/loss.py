"""The objective of one forward pass, as sums over trained tokens; the caller divides by a constant.

Sums and a constant, never means over what a micro-batch happens to hold: so the gradient is the same however the
batch is packed, cut or spread over processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch
from spiral.learning.surrogate import Mismatch, mismatch, reply_lengths, surrogate


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
    truncated: Tensor
    """Turns' tokens whose importance weight the cap cut off."""
    mismatch: Mismatch
    """Learner now against the engine."""
    logprobs: Tensor
    """(N,) of the trained tokens now, nats, without a gradient."""


def loss_terms(
    logits: Tensor,
    batch: MicroBatch,
    weights: Objective,
    reference: Tensor | None = None,
    initial: Tensor | None = None,
    old: Tensor | None = None,
) -> LossTerms:
    """The policy-gradient term, see `surrogate`, plus entropy and KL over the vocabulary.

    `logits`, `reference`, `initial`: (N, V). `old`: (N,), the learner's log-probabilities of the trained tokens before
    the update's first step, None where that is now.

    The KL to a reference that moves slowly is the magnet of magnetic mirror descent (Sokota et al. 2023, arXiv
    2206.05825), without which self-play cycles. It is taken exactly, over the vocabulary at each sampled token.

    The anchor is the policy of `initial`, or random legal play where that is None and the batch knows it. The gradient
    of its KL in the logits is pi - anchor. That of the surrogate and of the magnet is proportional to pi(a), so a move
    whose probability fell to nothing has no gradient to come back by, and is never sampled; here it has one. The same
    reason led NeuRD to update logits (Hennes et al. 2020, arXiv 1906.00190).
    """
    all_logprobs = torch.log_softmax(logits.float(), -1)
    logprobs = all_logprobs.gather(-1, batch.targets[:, None])[:, 0]
    gain = surrogate(logprobs, batch, weights, old)
    shares = 1 / reply_lengths(batch) if weights.mean_of_replies else None
    # What has no weight is measured only: its gradient would be computed in full and multiplied by 0.
    with torch.set_grad_enabled(torch.is_grad_enabled() and weights.entropy != 0):
        entropy = _Term.of(-(batch.count * (all_logprobs.exp() * all_logprobs).sum(-1)), shares)
    kl = _Term.of(logits.new_zeros(1), None)
    if reference is not None:
        gap_to_reference = all_logprobs - torch.log_softmax(reference.float(), -1)
        kl = _Term.of(batch.count * (all_logprobs.exp() * gap_to_reference).sum(-1), shares)
    with torch.set_grad_enabled(torch.is_grad_enabled() and weights.anchor != 0):
        anchor, anchored = _anchor_kl(all_logprobs, batch, initial, shares)
    objective = (
        gain.value + weights.entropy * entropy.weighed - weights.kl * kl.weighed - weights.anchor * anchor.weighed
    )
    return LossTerms(
        objective,
        gain.value.detach(),
        entropy.total.detach(),
        kl.total.detach(),
        anchor.total.detach(),
        anchored,
        gain.clipped,
        gain.truncated,
        mismatch(logprobs, batch, weights.band),
        logprobs.detach(),
    )


@dataclass(frozen=True, slots=True)
class _Term:
    """A term of the objective, summed over turns' tokens."""

    total: Tensor
    """As it is measured."""
    weighed: Tensor
    """As it is trained: by the share of each token in its reply, where replies count by their mean."""

    @classmethod
    def of(cls, values: Tensor, shares: Tensor | None) -> _Term:
        total = values.sum()
        return cls(total, total if shares is None else (values * shares).sum())


def _anchor_kl(
    logprobs: Tensor, batch: MicroBatch, initial: Tensor | None, shares: Tensor | None
) -> tuple[_Term, Tensor]:
    """KL(anchor || policy) and the number of turns' tokens that have it; `logprobs`, `initial`: (N, V)."""
    if initial is not None:
        anchor = torch.log_softmax(initial.float(), -1)
        return _Term.of(batch.count * (anchor.exp() * (anchor - logprobs)).sum(-1), shares), batch.count.sum()
    probs = batch.anchor_probs
    gaps = probs * (probs.log() - logprobs[batch.anchored, batch.anchor_ids])
    term = _Term.of(batch.count[batch.anchored] * gaps, None if shares is None else shares[batch.anchored])
    return term, batch.count[torch.unique_consecutive(batch.anchored)].sum()
