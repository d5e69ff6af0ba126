"""The optimiser of an update."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spiral.config.schema import LearnerConfig

BETAS = (0.9, 0.95)


def make_optimizer(parameters: Sequence[torch.nn.Parameter], config: LearnerConfig) -> torch.optim.Optimizer:
    """AdamW in one fused pass; the rate is set at each step."""
    return torch.optim.AdamW(parameters, lr=config.lr, betas=BETAS, weight_decay=config.weight_decay, fused=True)
