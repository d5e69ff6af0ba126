"""Learning rate and weights of the objective, as functions of the step alone, so that a resumed run needs no state."""

from __future__ import annotations

import math

from spiral.config.schema import LearnerConfig
from spiral.learning.objective import Objective


def learning_rate(config: LearnerConfig, step: int, num_steps: int) -> float:
    """Linear warm-up, then from `lr` to `lr * lr_end` at the last step as `schedule` says: linear; a half cosine
    (Loshchilov and Hutter 2017, arXiv 1608.03983); or warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395)."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, num_steps - 1 - config.warmup_steps)
    if config.schedule == "cosine":
        done = (1 - math.cos(math.pi * min(1.0, done))) / 2
    elif config.schedule == "wsd":
        num_falling = max(1.0, config.decay * num_steps)
        done = max(0.0, 1 - (num_steps - 1 - step) / num_falling)
    return config.lr * (1 - (1 - config.lr_end) * done)


def objective(config: LearnerConfig, step: int, num_steps: int) -> Objective:
    """The weights at a step; `kl` and `anchor` go linearly to `kl * kl_end` and `anchor * anchor_end`."""
    done = step / max(1, num_steps - 1)
    kl = config.kl * (1 - (1 - config.kl_end) * done)
    anchor = config.anchor * (1 - (1 - config.anchor_end) * done)
    by_mean = config.normalisation == "sequence"
    return Objective(
        config.clip,
        config.entropy,
        kl,
        anchor,
        config.clip_high,
        likelihood=config.objective == "likelihood",
        ratio_level=config.ratio_level,
        mean_of_replies=by_mean,
    )
