"""What an update maximises: the settings that the loss of one forward pass is computed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RatioLevel = Literal["token", "sequence"]


@dataclass(frozen=True, slots=True)
class Objective:
    """What is maximised beside the return, by weight; a term without weight is measured only."""

    clip: float | None = None
    """PPO's epsilon, below 1 and above; None leaves the ratio unclipped."""
    entropy: float = 0.0
    kl: float = 0.0
    """Of KL(policy || reference)."""
    anchor: float = 0.0
    """Of KL(anchor || policy)."""
    clip_high: float | None = None
    """Epsilon above 1, where it is not `clip`."""
    likelihood: bool = False
    """Whether the surrogate is the log-likelihood of the replies, which another policy gave: there is no ratio to it,
    so nothing is clipped, corrected or compared."""
    ratio_level: RatioLevel = "token"
    mean_of_replies: bool = False
    """Whether each reply counts by the mean over its tokens, and not by their sum."""
    importance_cap: float | None = None
    """Of the importance weights, learner over engine; None for no such weights: the ratio is taken to the engine's
    probabilities then, and not to the learner's own."""
    band: float = 1e-3
    """Nats beyond which a token's log-probabilities of learner and engine count as different."""

    @property
    def clip_above(self) -> float | None:
        """Epsilon above 1."""
        return self.clip if self.clip_high is None else self.clip_high
