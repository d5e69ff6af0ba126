"""A model's weights in bfloat16, as a run keeps them that asks for `learner.precision=bf16`."""

from __future__ import annotations

from typing import Any

import torch

from spiral.models.adapted import adapter_of, own_parameters


def to_bfloat16(model: Any) -> None:
    """Round every weight, but not those of an adapter: they are few, and all that is trained.

    Nor buffers, such as the frequencies of rotary positions, which transformers keeps in float32 too.
    """
    kept = set() if adapter_of(model) is None else set(own_parameters(model))
    for name, parameter in model.named_parameters():
        if name not in kept and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)
