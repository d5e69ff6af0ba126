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
from spiral.learning.token_terms import TokenTerms


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Scalars summed over turns' tokens, in nats where they are entropies."""

    objective: Tensor
    """What is maximised: the surrogate, with the other terms at their weights."""
    surrogate: Tensor
    nll: Tensor
    """Negative log-likelihood of the replies."""
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


def loss_terms(tokens: TokenTerms, batch: MicroBatch, weights: Objective, old: Tensor | None = None) -> LossTerms:
    """The policy-gradient term, see `surrogate`, plus entropy and KL over the vocabulary, of the batch's tokens.

    `old`: (N,), the learner's log-probabilities of the trained tokens before the update's first step, None where that
    is now.

    The KL to a reference that moves slowly is the magnet of magnetic mirror descent (Sokota et al. 2023, arXiv
    2206.05825), without which self-play cycles. It is taken exactly, over the vocabulary at each sampled token.

    The anchor is the initial policy, or random legal play where that is not asked for and the batch knows it. The
    gradient of its KL in the logits is pi - anchor. That of the surrogate and of the magnet is proportional to pi(a),
    so a move whose probability fell to nothing has no gradient to come back by, and is never sampled; here it has one.
    The same reason led NeuRD to update logits (Hennes et al. 2020, arXiv 1906.00190).
    """
    gain = surrogate(tokens.logprobs, batch, weights, old)
    shares = 1 / reply_lengths(batch) if weights.mean_of_replies else None
    entropy = _Term.of(batch.count * tokens.entropy, shares)
    kl = _Term.of(tokens.logprobs.new_zeros(1), None)
    if tokens.kl is not None:
        kl = _Term.of(batch.count * tokens.kl, shares)
    anchor, anchored = _anchor_kl(tokens, batch, shares)
    objective = (
        gain.value + weights.entropy * entropy.weighed - weights.kl * kl.weighed - weights.anchor * anchor.weighed
    )
    return LossTerms(
        objective,
        gain.value.detach(),
        -(batch.count * tokens.logprobs).sum().detach(),
        entropy.total.detach(),
        kl.total.detach(),
        anchor.total.detach(),
        anchored,
        gain.clipped,
        gain.truncated,
        mismatch(tokens.logprobs, batch, weights.band),
        tokens.logprobs.detach(),
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


def _anchor_kl(tokens: TokenTerms, batch: MicroBatch, shares: Tensor | None) -> tuple[_Term, Tensor]:
    """KL(anchor || policy) and the number of turns' tokens that have it."""
    if tokens.anchor_kl is not None:
        return _Term.of(batch.count * tokens.anchor_kl, shares), batch.count.sum()
    probs = batch.anchor_probs
    gaps = probs * (probs.log() - tokens.anchor_logprobs)
    term = _Term.of(batch.count[batch.anchored] * gaps, None if shares is None else shares[batch.anchored])
    return term, batch.count[torch.unique_consecutive(batch.anchored)].sum()
