"""Policies of one shape in one forward pass: their weights stand behind each other in stacked tensors, and each row of
tokens is multiplied with those of its own policy.

A model brings this by an optional member `stack()`, which gives a `Stack` without policies, or None where it cannot.
Small models on a CPU are worth it: what one pass costs there is its calls more than its products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from spiral.models.adapted import adapter_of


class Stack(Protocol):
    """Decoders that have the shape of the model that made it. Policies are counted from 0."""

    def arrange(self, order: Sequence[int | None]) -> None:
        """Policy i is from now on the one that was `order[i]`, or one whose weights are undefined where that is None;
        those that are not in `order` are forgotten."""

    def load(self, policy: int, weights: Mapping[str, Tensor]) -> None:
        """Copy `weights`, named as the model's own parameters, into a policy."""

    def __call__(
        self,
        keys: Tensor,
        first: int,
        ids: Sequence[Sequence[int]],
        starts: Sequence[int],
        policies: Sequence[int],
        wants_logits: bool = True,
    ) -> Tensor:
        """Logits (n, V) after the new ids of rows first..first+n-1 of a cache; (0, V) where none are wanted.

        `keys`: (2, layers, rows, kv_heads, length, head_dim), the keys and values of the texts, in the order of their
        places and otherwise as the stack pleases; those of the new ids are written. `ids[i]`: the new ids of row i, at
        least one, which go on from place `starts[i]`. `policies[i]`: whose row it is.
        """


def own_stack(model: Any) -> Stack | None:
    """The one that a model brings; None for a model without, for one that peft wrapped, and beside a GPU, where passes
    are recorded policy by policy."""
    make = getattr(model, "stack", None)
    if make is None or adapter_of(model) is not None or model.device.type != "cpu" or model.dtype != torch.float32:
        return None
    made: Stack | None = make()
    return made
