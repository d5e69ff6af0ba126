"""Products of linear layers in float32 on a CPU, by the faster of the two libraries that torch brings.

torch asks MKL for them, which leaves the wider half of the vector units of AMD's processors unused: there oneDNN, which
has kernels for AVX-512 on all of them, takes less than half of the time of a large product (0.43 of it for 4,096 rows,
128 inputs and 688 outputs on an EPYC), forwards and backwards. A small one costs less to call by MKL.

Which one it is depends on the processor and the shapes alone, so a machine gives the same bits each time.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 1 << 25
"""Multiplications from which on oneDNN is worth its call, and the half of a millisecond that it takes to make a kernel
for a shape that it has not met."""
FEWEST_AGAIN = 1 << 20
"""Where shapes come again."""
_PLAIN = (Tensor, nn.Parameter)


def has_unused_vectors() -> bool:
    """Whether this is a processor on which MKL does not use all of the vector units that torch finds."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() == "AuthenticAMD"


def _vendor() -> str:
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists():
        return "AuthenticAMD" if "AuthenticAMD" in platform.processor() else ""
    lines = (line.partition(":") for line in cpu.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "vendor_id"), "")


_BY_ONEDNN = has_unused_vectors() and torch._C._has_mkldnn


class Linear(nn.Linear):
    """torch's linear layer, computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, fewest: int = FEWEST) -> Tensor:
    """As torch.nn.functional.linear, (..., inputs) and (outputs, inputs) -> (..., outputs), but for rounding."""
    if not _BY_ONEDNN or not _is_suitable(x, weight, fewest):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        product: Tensor = _Product.apply(x, weight)  # type: ignore[no-untyped-call]
        return product if bias is None else product + bias
    return _by_onednn(x, weight, bias)


def use_fast_products(model: nn.Module) -> None:
    """Let the linear layers of any model compute by `linear`."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def _is_suitable(x: Tensor, weight: Tensor, fewest: int) -> bool:
    return (
        x.numel() // max(1, x.shape[-1]) * weight.numel() >= fewest
        and x.dtype == weight.dtype == torch.float32
        and x.is_cpu
        and weight.is_cpu
        and type(x) in _PLAIN
        and type(weight) in _PLAIN  # not one that several processes share out
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # What torch's compiler writes for a linear layer on a CPU.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class _Product(torch.autograd.Function):
    """A large product and its gradients, each of which is one."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return _by_onednn(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        [gradient], (x, weight) = gradients, ctx.saved_tensors
        of_x = linear(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = linear(gradient.flatten(0, -2).t(), x.flatten(0, -2).t())
        return of_x, of_weight
