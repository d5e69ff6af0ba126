"""Weights on their way between processes: cut into buckets of bytes, so that a model is never gathered whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

BUCKET_BYTES = 256 << 20

Flat = tuple[str, tuple[int, ...], np.ndarray]
"""dtype, shape and bytes of a tensor: arrays cross without a copy where memory is shared, which tensors do not."""

Fetch = Callable[[Any], Mapping[str, Flat]]
"""Gets a bucket by what it was kept under."""


def buckets(weights: Mapping[str, Tensor], max_bytes: int = BUCKET_BYTES) -> Iterator[dict[str, Flat]]:
    """The tensors in the order of the mapping, each read once, as many in a bucket as fit; at least one."""
    bucket: dict[str, Flat] = {}
    size = 0
    for name, weight in weights.items():
        flat = flattened(weight)
        if bucket and size + flat[2].nbytes > max_bytes:
            yield bucket
            bucket, size = {}, 0
        bucket[name] = flat
        size += flat[2].nbytes
    if bucket:
        yield bucket


def flattened(weight: Tensor) -> Flat:
    """A tensor's bytes; a copy where the tensor is on a device, or changed later."""
    whole = weight.detach().to("cpu", copy=True).contiguous()
    return str(whole.dtype).removeprefix("torch."), tuple(whole.shape), whole.view(-1).view(torch.uint8).numpy()


def unflattened(flat: Flat) -> Tensor:
    """The tensor again, over the same memory; not to be written to."""
    dtype, shape, data = flat
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # memory that is shared between processes is read-only
        return torch.from_numpy(data).view(getattr(torch, dtype)).view(shape)


class Received(Mapping[str, Tensor]):
    """Tensors by name, fetched a bucket at a time as they are read."""

    def __init__(self, parts: Sequence[tuple[Sequence[str], Any]], fetch: Fetch) -> None:
        """`parts`: the names in a bucket, and what `fetch` gets it by."""
        self._parts, self._fetch = [part for _, part in parts], fetch
        self._places = {name: index for index, (names, _) in enumerate(parts) for name in names}
        self._last: tuple[int, Mapping[str, Flat]] | None = None

    def __getitem__(self, name: str) -> Tensor:
        index = self._places[name]
        if self._last is None or self._last[0] != index:
            self._last = index, self._fetch(self._parts[index])
        return unflattened(self._last[1][name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
