"""Products of linear layers as the models compute them, over torch's own: forwards, and with both gradients.

Above 1 on processors on which MKL leaves vectors unused, see `spiral_models.products`; 1 on any
other. Shapes are those of the layers of byte models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from spiral_models.products import FEWEST_AGAIN, linear
from torch import Tensor

from perf.measure import Figure, alternate, ratios

REPEATS, WORK = 7, 1e10
"""Multiplications of a timing, about a tenth of a second."""
ROWS = (64, 4096)
SHAPES = {"gate and up of byte-1m": (128, 688), "down of byte-10m": (896, 320)}
"""Inputs and outputs."""


def figures() -> Iterator[Figure]:
    """One row a token of 64 texts, and the rows of an update."""
    for name, (inputs, outputs) in SHAPES.items():
        for rows in ROWS:
            x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
            ours = partial(linear, fewest=FEWEST_AGAIN)
            yield _figure(f"products {name}, {rows} rows", _forward, F.linear, ours, x, weight)
        yield _figure(f"products {name}, {rows} rows and gradients", _both_ways, F.linear, ours, x, weight)


def _figure(
    name: str,
    work: Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor], None],
    torchs: Callable[[Tensor, Tensor], Tensor],
    ours: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    weight: Tensor,
) -> Figure:
    times = max(1, int(WORK / (len(x) * weight.numel())))

    def repeated(product: Callable[[Tensor, Tensor], Tensor]) -> None:
        for _ in range(times):
            work(product, x, weight)

    of_torch, of_ours = alternate([partial(repeated, torchs), partial(repeated, ours)], REPEATS)
    ratio = ratios(of_torch, of_ours)
    return Figure(name, ratio["cpu"]["median"], "x torch's", detail={"ratio": ratio})


def _forward(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> None:
    with torch.inference_mode():
        product(x, weight)


def _both_ways(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> None:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    torch.autograd.grad(product(x, weight).sum(), (x, weight))
