"""Weights that several processes hold in parts (DTensor): read whole one at a time, and written from whole ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


class WholeWeights(Mapping[str, Tensor]):
    """Weights by name, each made whole when it is read. Of sharded ones each is gathered: all processes read the same
    names in the same order, and none has to hold more than one whole tensor."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        self._parts = parts
        self.layout = {name: torch.empty(p.shape, dtype=p.dtype, device="meta") for name, p in parts.items()}
        """Shapes and types, known without reading."""

    def __getitem__(self, name: str) -> Tensor:
        return whole(self._parts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def whole(tensor: Tensor) -> Tensor:
    """A tensor itself, or all of one whose parts the processes hold; all of them call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(own: Tensor, given: Tensor) -> Tensor:
    """What of `given`, of the shape of `own`, lies where `own` does: each process takes its own part of a whole
    tensor, and none is sent."""
    if not isinstance(own, DTensor) or isinstance(given, DTensor):
        return given
    return distribute_tensor(given.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def parts_like(parameter: Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's state of a parameter: its tensors of the parameter's shape, such as moments, lie where it does."""
    is_like = {name: isinstance(value, Tensor) and value.shape == parameter.shape for name, value in state.items()}
    return {name: part_like(parameter, value) if is_like[name] else value for name, value in state.items()}


def shapes(weights: Mapping[str, Tensor]) -> Mapping[str, torch.Size]:
    """The shapes of whole weights by name; sharded ones are not read."""
    layout = weights.layout if isinstance(weights, WholeWeights) else weights
    return {name: layout[name].shape for name in layout}  # by name: the items may be a stream, which is read once
