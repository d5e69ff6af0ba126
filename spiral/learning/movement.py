"""The share of weights that optimiser steps changed: weights in bfloat16 could round every update away, and the loss,
the gradients and the learning rate would all look as they should.

Measured on entries of each tensor that are the same in every step, so that no second copy of the weights is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor

from spiral.learning.rounding import local

ENTRIES = 1024
"""Of a tensor that are compared, about."""


class Movement:
    """Of the optimiser steps of one update. `parameters`: those that the optimiser changes, whole or in parts."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], accelerator: Accelerator) -> None:
        self._parameters = [p for p in parameters if local(p).numel()]  # a process may have no part of a small one
        self._accelerator = accelerator
        self._counts = torch.zeros(2, device=accelerator.device)
        """Weights that moved, and weights that had a gradient."""

    @contextmanager
    def measured(self) -> Iterator[None]:
        """A block with one optimiser step, whose gradients are there when it begins."""
        before, gradients = self._entries(), self._gradients()
        yield
        moved = torch.stack([(self._entries() != before) & gradients, gradients])
        self._counts += (moved * self._stands_for()).sum(-1)

    def share(self) -> float | None:
        """Of the weights whose gradient was not 0, the share that changed, over all steps and processes, which all call
        it; None where no gradient was other than 0."""
        moved, had_gradient = self._accelerator.reduce(self._counts, "sum").tolist()
        return moved / had_gradient if had_gradient else None

    @torch.no_grad()
    def _entries(self) -> Tensor:
        # Concatenated they are a copy, and the step changes the weights in place.
        return _joined([_some(local(p)) for p in self._parameters], self._accelerator.device)

    @torch.no_grad()
    def _gradients(self) -> Tensor:
        """Whether the gradient of each entry is other than 0."""
        some = [_some(local(p)) if p.grad is None else _some(local(p.grad)) for p in self._parameters]
        known = [torch.zeros_like(s) if p.grad is None else s for p, s in zip(self._parameters, some, strict=True)]
        return _joined(known, self._accelerator.device) != 0

    def _stands_for(self) -> Tensor:
        """How many weights each entry stands for."""
        sizes = [local(p).numel() for p in self._parameters]
        counts = [len(_some(local(p))) for p in self._parameters]
        each = torch.tensor([size / count for size, count in zip(sizes, counts, strict=True)])
        return each.repeat_interleave(torch.tensor(counts, dtype=torch.long)).to(self._accelerator.device)


def _some(tensor: Tensor) -> Tensor:
    """About `ENTRIES` of a tensor's entries at equal distances, of every column in turn."""
    distance = max(1, tensor.numel() // ENTRIES)
    while math.gcd(distance, tensor.shape[-1] if tensor.dim() else 1) > 1:  # or all would be of one column, or of a few
        distance += 1
    return tensor.detach().reshape(-1)[::distance]


def _joined(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, device=device)
