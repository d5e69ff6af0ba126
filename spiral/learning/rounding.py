"""Stochastic rounding to bfloat16, and AdamW over weights that are kept in it alone.

An update below half a unit in the last place, 1/512 of a weight on average, would round to nothing in every step, and
learning rates of reinforcement learning are that small. Rounded up with the probability of what is cut off, a weight
moves by its update in the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from spiral.seeds import derive

CUT_BITS = 16
"""Of float32, whose upper half is bfloat16."""


def rounding_generator(device: torch.device, *path: int) -> torch.Generator:
    """A generator that is a function of `path` alone: a resumed run rounds as one that was not stopped, and all
    processes that hold the same weights round them alike."""
    return torch.Generator(device).manual_seed(derive(0, "rounding", *path))


@torch.no_grad()
def copy_rounded_(target: Tensor, values: Tensor, generator: torch.Generator) -> None:
    """Write float32 `values` into `target`, bfloat16 of the same shape, each up or down with the probability that makes
    its mean the value itself. What is no number stays none."""
    noise = torch.randint(1 << CUT_BITS, values.shape, generator=generator, device=values.device, dtype=torch.int32)
    bits = values.contiguous().view(torch.int32)
    rounded = ((bits + noise) & -(1 << CUT_BITS)).view(torch.float32)
    target.copy_(torch.where(values.isfinite(), rounded, values))


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019) over bfloat16 weights, its two moments in bfloat16 too: 8 bytes a parameter
    with weight and gradient. Computed in float32, and rounded stochastically, one parameter after another."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; `closure` is not called."""
        index = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                index += 1
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                num = int(state["step"])
                generator = rounding_generator(parameter.device, index, num)
                _step(
                    local(parameter),
                    local(parameter.grad),
                    (local(state["exp_avg"]), local(state["exp_avg_sq"])),
                    group,
                    num,
                    generator,
                )


def _step(
    weight: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    group: dict[str, Any],
    num: int,
    generator: torch.Generator,
) -> None:
    """The `num`-th update of one weight."""
    mean, square = moments
    (beta1, beta2), lr = group["betas"], group["lr"]
    gradient = gradient.float()
    new_mean = mean.float().lerp_(gradient, 1 - beta1)
    new_square = square.float().lerp_(gradient.square(), 1 - beta2)
    size = (new_square / (1 - beta2**num)).sqrt_().add_(group["eps"])
    new_weight = weight.float().mul_(1 - lr * group["weight_decay"])
    new_weight.addcdiv_(new_mean, size, value=-lr / (1 - beta1**num))
    for target, values in ((mean, new_mean), (square, new_square), (weight, new_weight)):
        copy_rounded_(target, values, generator)


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that FSDP2 shares out; any other tensor itself."""
    part = getattr(tensor, "to_local", None)
    own: Tensor = tensor if part is None else part()
    return own
