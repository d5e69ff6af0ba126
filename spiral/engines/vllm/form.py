"""A model as vLLM knows it: the folder that its engine is made from, and the names of the weights that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from spiral.engines.vllm.adapters import Adapter, Renamed, base_weights
from spiral.runs.files import WriteError, num_bytes, writing

DEFAULT_CAPACITY, DEFAULT_ADAPTERS = 2, 8
"""Policies with weights of their own: whole models, or adapters over one."""

MODEL_FILE = "model.safetensors"
"""In the folder that vLLM reads."""


@dataclass(frozen=True)
class ModelForm:
    """A configuration of an architecture that vLLM has, and weights by that one's names."""

    config: Any
    renamed: Renamed
    """Of what a policy is given."""
    dtype: torch.dtype
    capacity: int
    """Policies with weights of their own, in all vLLM engines together."""
    adapter: Adapter | None = None
    base: Callable[[], Mapping[str, Tensor]] = dict
    """The weights that vLLM is made with, by the names of a checkpoint; none where each policy brings all."""

    @classmethod
    def of(cls, model: Any, capacity: int | None) -> ModelForm:
        """`model` itself, or what its optional members `standard_config()` and `standard_weights(weights)` make it; the
        second one takes some of a model's weights too. Raises SpiralError for an adapter that vLLM cannot apply."""
        config, renamed = model.config, _same
        if hasattr(model, "standard_config"):
            config, renamed = model.standard_config(), model.standard_weights
        adapter = Adapter.of(model, renamed)
        if adapter is None:
            return cls(config, renamed, model.dtype, DEFAULT_CAPACITY if capacity is None else capacity)
        capacity = DEFAULT_ADAPTERS if capacity is None else capacity
        return cls(config, _same, model.dtype, capacity, adapter, lambda: renamed(base_weights(model)))

    @property
    def policies(self) -> int:
        """Those that one vLLM engine holds: one with all weights its own, or as many as there may be adapters."""
        return 1 if self.adapter is None else self.capacity

    @property
    def what(self) -> str:
        """What one more policy costs."""
        return "model" if self.adapter is None else "adapter"

    @property
    def arguments(self) -> dict[str, Any]:
        """Of vLLM's own, as they follow from the model."""
        if self.adapter is None:
            return {"load_format": "dummy"}  # the weights are the learner's, by the first load
        return {"load_format": "safetensors", **self.adapter.arguments(self.policies)}

    def write(self, folder: str) -> None:
        """What vLLM reads as it starts. Raises WriteError where there is no room for it."""
        self.config.save_pretrained(folder)
        base, path = {name: tensor.contiguous() for name, tensor in self.base().items()}, Path(folder, MODEL_FILE)
        if not base:
            return
        try:
            with writing(path, num_bytes(base)):
                save_file(base, path, {"format": "pt"})
        except WriteError as error:
            raise WriteError(
                f"vLLM reads the base model from a temporary folder, and {error}, by the environment variable TMPDIR"
            ) from error


def _same(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return weights
