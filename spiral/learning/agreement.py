"""How near the learner's log-probabilities of a fresh batch have to be to the engine's, and whether what is left
between them is corrected: by the precision of both, and by whether they are one computation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig
from spiral.engines.probe import BANDS
from spiral.learning.objective import Objective

MAX_BEYOND = 0.1
"""Share of a batch's tokens that may be beyond the band where learner and engine are two computations. In bf16 a few
unlikely tokens always are: of 400 that SmolLM2 sampled, 0.3 to 0.5%, the furthest by 0.36 nats, with a mean of 0.04. A
tenth of all tokens is another policy."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a run asks of its learner and its engine."""

    band: float
    """Nats by which the log-probabilities of a token may differ."""
    is_exact: bool
    """Whether both are one float32 computation: every token has to be within the band."""
    importance_cap: float | None
    """Of truncated importance weights; None for none."""
    is_stale: bool = False
    """Whether the replies are of older weights too, so that any token may differ."""

    @classmethod
    def of(
        cls, config: LearnerConfig, learner: torch.dtype, engine: torch.dtype | None, is_async: bool = False
    ) -> Agreement:
        """`learner`: the dtype that its log-probabilities are computed in. `engine`: that of an engine which computes
        them otherwise than by the model's own forward pass, None for one that does not. `is_async`: whether replies are
        of older weights too, which is always corrected."""
        bands = [BANDS[dtype] for dtype in (learner, engine) if dtype is not None]
        is_exact = engine is None and learner in (torch.float32, torch.float64)
        corrected = config.importance == "truncated" or (config.importance == "auto" and (is_async or not is_exact))
        band = max(bands) if config.ratio_tolerance is None else config.ratio_tolerance
        return cls(band, is_exact, config.importance_cap if corrected else None, is_async)

    def applied(self, objective: Objective) -> Objective:
        """An objective with these importance weights and this band."""
        return replace(objective, importance_cap=self.importance_cap, band=self.band)

    def check(self, gap: float, share_beyond: float) -> None:
        """Raise RunError if a fresh batch was sampled by another policy than the learner's. `gap`: the largest
        difference of a token, nats; `share_beyond`: of tokens, whose difference is more than the band."""
        if self.is_stale:
            return
        if self.is_exact and gap > self.band:
            found = f"a sampled token's log-probability differs by {gap:.2g} nats on a fresh batch"
        elif not self.is_exact and share_beyond > MAX_BEYOND:
            found = (
                f"the log-probabilities of {share_beyond:.0%} of a fresh batch's tokens differ by more than the band, "
                f"and {MAX_BEYOND:.0%} may"
            )
        else:
            return
        raise RunError(
            f"the learner and the engine disagree: {found} (learner.ratio_tolerance is {self.band:g}), so every "
            "gradient would be biased; the engine's weights, precision or sampling distribution are not the learner's"
        )
