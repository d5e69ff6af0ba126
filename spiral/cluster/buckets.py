"""Weights on their way between processes: cut into buckets, so that a model is never gathered whole."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.models.sharded import WholeWeights

BUCKET_BYTES = 256 << 20

Flat = tuple[str, tuple[int, ...], np.ndarray]
"""dtype, shape and bytes of a tensor: arrays cross without a copy where memory is shared, which tensors do not."""
ALIGNED = 64
"""A tensor of any dtype may begin at a multiple of this many bytes of a buffer."""

Part = TypeVar("Part")


def buckets(weights: Mapping[str, Tensor], max_bytes: int = BUCKET_BYTES) -> Iterator[dict[str, Flat]]:
    """The tensors in the order of the mapping, each read once, as many in a bucket as fit; at least one."""
    flats = ((name, flattened(weight)) for name, weight in weights.items())
    return _cut(flats, lambda flat: flat[2].nbytes, max_bytes)


def packed_buckets(weights: Mapping[str, Tensor], max_bytes: int = BUCKET_BYTES) -> Iterator[Packed]:
    """The same buckets, each in one buffer on the device of its tensors."""
    tensors = ((name, weight.detach()) for name, weight in weights.items())
    return map(Packed.of, _cut(tensors, lambda tensor: tensor.nbytes, max_bytes))


def _cut(
    parts: Iterable[tuple[str, Part]], size_of: Callable[[Part], int], max_bytes: int
) -> Iterator[dict[str, Part]]:
    bucket: dict[str, Part] = {}
    size = 0
    for name, part in parts:
        if bucket and size + size_of(part) > max_bytes:
            yield bucket
            bucket, size = {}, 0
        bucket[name] = part
        size += size_of(part)
    if bucket:
        yield bucket


class Packed(Mapping[str, Tensor]):
    """Tensors by name that lie one after another in one buffer, which a transport registers and reads as a whole."""

    def __init__(self, places: Mapping[str, tuple[torch.dtype, tuple[int, ...], int]], data: Tensor) -> None:
        """`places`: dtype, shape and first byte of each tensor in `data`, which is of uint8."""
        self._places, self._data = places, data

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Packed:
        """Copies, on the device of the first tensor: training goes on to change the originals in place."""
        places, size = {}, 0
        for name, tensor in tensors.items():
            places[name] = tensor.dtype, tuple(tensor.shape), size
            size += -(-tensor.nbytes // ALIGNED) * ALIGNED
        device = next(iter(tensors.values())).device
        num_bytes = max(size, ALIGNED)  # no transport registers 0 bytes
        packed = cls(places, torch.empty(num_bytes, dtype=torch.uint8, device=device))
        for name, tensor in tensors.items():
            packed[name].copy_(tensor)
        return packed

    @property
    def device(self) -> torch.device:
        """Where the buffer is."""
        return self._data.device

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, start = self._places[name]
        num_bytes = math.prod(shape) * dtype.itemsize
        return self._data[start : start + num_bytes].view(dtype).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


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


Bucket = Mapping[str, Flat] | Packed
"""Some tensors by name, as they cross."""
Fetch = Callable[[Any], Bucket]
"""Gets a bucket by what it was kept under."""
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""dtype and shape of the tensors of a bucket, in their order."""


def layout_of(bucket: Bucket) -> Layout:
    """What is known of a bucket before it is fetched."""
    if isinstance(bucket, Packed):
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in bucket.items()}
    return {name: (getattr(torch, dtype), shape) for name, (dtype, shape, _) in bucket.items()}


class FetchFailed(SpiralError):
    """A bucket could not be had: what was read before is there, and the rest is not."""


class Received(WholeWeights):
    """Tensors by name, fetched a bucket at a time as they are read: their layout is known before, and no more than a
    bucket has to be held."""

    def __init__(self, parts: Sequence[tuple[Layout, Any]], fetch: Fetch) -> None:
        """`parts`: the layout of a bucket, and what `fetch` gets it by. Reading raises FetchFailed if it cannot."""
        self._keys, self._fetch = [key for _, key in parts], fetch
        self._places = {name: index for index, (layout, _) in enumerate(parts) for name in layout}
        self.layout = {
            name: torch.empty(shape, dtype=dtype, device="meta")
            for layout, _ in parts
            for name, (dtype, shape) in layout.items()
        }
        self._last: tuple[int, Bucket] | None = None

    def __getitem__(self, name: str) -> Tensor:
        index = self._places[name]
        if self._last is None or self._last[0] != index:
            self._last = index, self._fetched(index)
        found = self._last[1][name]
        return found if isinstance(found, Tensor) else unflattened(found)

    def _fetched(self, index: int) -> Bucket:
        try:
            return self._fetch(self._keys[index])
        except Exception as error:  # of whatever carries the buckets
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "no reason was given")
            raise FetchFailed(
                f"bucket {index + 1} of {len(self._keys)} of its weights did not arrive ({reason})"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
