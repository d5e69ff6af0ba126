"""Averages of a model's weights over steps: the one that is evaluated, and the reference that play is held near to.

Self-play circles around an equilibrium, and the average of the circle is nearer to it than any point on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from spiral.api.errors import RunError
from spiral.learning.rounding import copy_rounded_, local, rounding_generator
from spiral.models.adapted import frozen_copy
from spiral.models.logits import TokenLogits, load_parameters, parameters
from spiral.models.sharded import part_like

Weights = Mapping[str, Tensor]


class ModelAverage:
    """An average of a model's weights, as a model of its own: polynomial-decay at first, then exponential.

    Shamir and Zhang 2013, "Stochastic Gradient Descent for Non-smooth Optimization": step t weighs about t^`power`, so
    the average lags by a (power + 2)-th of the steps so far, where a plain mean would lag by half of them.
    """

    def __init__(self, model: nn.Module, decay: float, power: float) -> None:
        self.model: Any = frozen_copy(model)
        self._decay, self._power = decay, power
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the weights of `model`."""
        self.num_updates += 1
        share = (self._power + 1) / (self.num_updates + self._power)
        _move(list(parameters(self.model).values()), model, max(1 - self._decay, share), self.num_updates)

    def load(self, weights: Mapping[str, Tensor], num_updates: int) -> None:
        """Continue from saved weights."""
        load_parameters(self.model, weights)
        self.num_updates = num_updates


class Reference:
    """The policy of the KL term. It stands still between moves; every `every` steps it moves to where a shorter average
    than the evaluated one has arrived by then. With 0 it never moves: it is the policy as the run began."""

    def __init__(self, model: nn.Module, decay: float, every: int) -> None:
        self.lm = TokenLogits(frozen_copy(model))
        self._decay, self._every, self._num_updates = decay, every, 0

    @cached_property
    def _next(self) -> dict[str, Tensor]:
        """Where it moves to next; made when first needed, as the processes may share out `lm` after it was made."""
        return {name: weight.clone() for name, weight in parameters(self.lm.model).items()} if self._every else {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow the weights of `model` after `step`, and move if it is time."""
        self._num_updates += 1
        if not self._every:
            return
        # A plain mean at first, since the first weights would otherwise weigh too long.
        _move(list(self._next.values()), model, max(1 - self._decay, 1 / self._num_updates), self._num_updates)
        if (step + 1) % self._every == 0:
            load_parameters(self.lm.model, self._next)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps."""
        own = {"reference": parameters(self.lm.model)}
        return own | ({"reference_next": self._next} if self._every else {})

    def load(self, tensors: Mapping[str, Weights], default: Weights, num_updates: int) -> None:
        """Continue from what `tensors` gave, or from `default` where it is not there. Raises RunError where it is the
        policy as the run began that is not there."""
        if not self._every and "reference" not in tensors:
            raise RunError(
                "learner.reference_every=0 needs the policy that the run began with, and its checkpoints do not hold "
                "it, since no KL term was asked for then; set learner.reference_every=25, or start a new run"
            )
        load_parameters(self.lm.model, tensors.get("reference", default))
        saved = tensors.get("reference_next", default)
        for name, weight in self._next.items():  # into our own: files lie on the CPU and keep no order
            weight.copy_(part_like(weight, saved[name]))
        self._num_updates = num_updates


def _move(average: list[Tensor], model: nn.Module, share: float, number: int) -> None:
    """One step of an average, its `number`-th: `share` of the way to the weights of `model`."""
    weights = list(parameters(model).values())
    if all(tensor.dtype != torch.bfloat16 for tensor in average):
        torch._foreach_lerp_(average, weights, share)
        return
    for index, (tensor, weight) in enumerate(zip(average, weights, strict=True)):
        # A small share of the way would round to none of it.
        moved = local(tensor).float().lerp_(local(weight).float(), share)
        copy_rounded_(local(tensor), moved, rounding_generator(moved.device, index, number))
