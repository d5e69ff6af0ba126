"""The policy-gradient term of the objective, from the log-probabilities of the trained tokens alone, and how far the
learner's are from the engine's.

Apart from the terms over the vocabulary: a ratio of whole replies needs all tokens of a reply, where those terms can be
computed a few tokens at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut off here on both sides, where they have no gradient: exp(89) is infinite in float32, and an
infinite ratio that the clip drops is a gradient of infinity times 0."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Scalars summed over turns' tokens."""

    value: Tensor
    clipped: Tensor
    """Turns' tokens whose ratio the clip cut off."""
    truncated: Tensor
    """Turns' tokens whose importance weight the cap cut off."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Learner against engine over sampled tokens, r = pi_learner / pi_engine: scalars summed over turns' tokens."""

    ratio: Tensor
    """r."""
    kl: Tensor
    """r - 1 - log r, whose mean estimates KL(engine || learner) in nats: the estimator k3 of Schulman 2020, which is
    never negative and varies little."""
    beyond: Tensor
    """Tokens with |log r| beyond the band."""
    gap: Tensor
    """The largest |log r|, nats; no sum."""


def surrogate(logprobs: Tensor, batch: MicroBatch, weights: Objective, old: Tensor | None = None) -> Surrogate:
    """PPO's clipped surrogate (Schulman et al. 2017) with merged samples. `logprobs`: (N,), the learner's, nats.

    At a ratio of 1 its gradient is REINFORCE's, sum of A grad log pi. For a token that stands for several turns,
    min(r A, clip(r) A) summed over turns is P min(r, 1 + eps) + Q max(r, 1 - eps), with P and Q the sums of the
    positive and the negative advantages, so merging changes nothing.

    Without importance weights r = pi / pi_engine, which weighs each token by itself, without bound. With them, three
    policies are told apart (decoupled PPO: Hilton et al. 2021, arXiv 2110.00641; AReaL): r = pi / pi_old, which is what
    the clip keeps near 1, and the constant min(pi_old / pi_engine, cap), which corrects what was sampled from another
    distribution (truncated importance sampling). `old`: (N,), log pi_old, the learner's before the update's first step;
    None where that is now, as in an update of one step.
    """
    if weights.likelihood:
        return _likelihood(logprobs, batch, weights)
    corrected = weights.importance_cap is not None
    proximal = batch.logprobs
    if corrected:
        proximal = logprobs.detach() if old is None else old
    ratio = _ratios(logprobs, proximal, batch, weights)
    up, down = ratio, ratio
    if weights.clip is not None and weights.clip_above is not None:
        up, down = ratio.clamp(max=1 + weights.clip_above), ratio.clamp(min=1 - weights.clip)
    gains = batch.positive * up + batch.negative * down
    truncated = gains.new_zeros(())
    if weights.importance_cap is not None:
        importance = _bounded(proximal - batch.logprobs).exp()
        gains = gains * importance.clamp(max=weights.importance_cap)
        truncated = (batch.count * (importance > weights.importance_cap)).sum()
    if weights.mean_of_replies:
        gains = gains / reply_lengths(batch)
    with torch.no_grad():
        cut_off = ((batch.positive > 0) & (up != ratio)) | ((batch.negative < 0) & (down != ratio))
        clipped = (batch.count * cut_off).sum()
    return Surrogate(gains.sum(), clipped, truncated)


def _likelihood(logprobs: Tensor, batch: MicroBatch, weights: Objective) -> Surrogate:
    """Log-probabilities, each weighed by the advantages of its turns: of 1 each, the log-likelihood of the replies."""
    gains = (batch.positive + batch.negative) * logprobs
    if weights.mean_of_replies:
        gains = gains / reply_lengths(batch)
    none = gains.new_zeros(())
    return Surrogate(gains.sum(), none, none)


@torch.no_grad()
def mismatch(logprobs: Tensor, batch: MicroBatch, band: float) -> Mismatch:
    """How far the learner's log-probabilities, (N,), are from those at sampling."""
    difference = logprobs - batch.logprobs
    bounded = _bounded(difference)
    ratio = bounded.exp()
    return Mismatch(
        (batch.count * ratio).sum(),
        # expm1: the difference of two numbers near 1 would lose what it is about.
        (batch.count * (bounded.expm1() - bounded)).sum(),
        (batch.count * (difference.abs() > band)).sum(),
        (difference.abs() * (batch.count > 0)).max(),  # a filler's token was never sampled
    )


def reply_lengths(batch: MicroBatch) -> Tensor:
    """(N,) how many tokens the reply has that each trained token belongs to."""
    places, lengths = _replies(batch)
    return lengths[places]


def _ratios(logprobs: Tensor, proximal: Tensor, batch: MicroBatch, weights: Objective) -> Tensor:
    """(N,) probability ratios to the proximal policy, of tokens or of whole replies.

    Of a reply (GSPO: Zheng et al. 2025, arXiv 2507.18071): the geometric mean over its tokens, so that it does not grow
    with length. Each token has its value, with the gradient of the token's own log-probability: the paper's GSPO-token,
    which is GSPO itself where all tokens have one advantage.
    """
    difference = logprobs - proximal
    if weights.ratio_level == "sequence":
        # The mean is bounded and not its parts: +100 and -100 in one reply are a ratio of 1.
        difference = _reply_means(difference.detach(), batch) + (logprobs - logprobs.detach())
    return _bounded(difference).exp()


def _reply_means(values: Tensor, batch: MicroBatch) -> Tensor:
    """(N,) the mean over the token's own reply."""
    places, lengths = _replies(batch)
    sums = values.new_zeros(len(lengths)).index_add_(0, places, values)
    return (sums / lengths)[places]


def _replies(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """(N,) the number of each token's reply in this micro-batch, and the replies' lengths."""
    # Consecutive: a row is filled sample by sample, and a sample's tokens are never split over rows.
    _, places, lengths = torch.unique_consecutive(batch.samples, return_inverse=True, return_counts=True)
    return places, lengths.to(batch.count.dtype)


def _bounded(log_ratios: Tensor) -> Tensor:
    return log_ratios.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
