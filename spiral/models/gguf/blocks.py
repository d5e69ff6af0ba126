"""The number formats of GGUF's tensors as float32. Quantised ones come in blocks of 32 with a scale of their own.

Source: the block structures of ggml (`ggml-common.h`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLOCK = 32
"""Numbers of a block."""

_Q4_1 = np.dtype([("scale", "<f2"), ("lowest", "<f2"), ("pairs", np.uint8, BLOCK // 2)])
_Q8_0 = np.dtype([("scale", "<f2"), ("steps", np.int8, BLOCK)])


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a tensor are kept."""

    name: str
    numbers: int
    """Of a block; 1 where each number stands alone."""
    bytes: int
    """Of a block."""
    decode: Callable[[np.ndarray], np.ndarray]
    """Bytes -> float32, as one row."""

    def num_bytes(self, count: int) -> int:
        """Bytes of `count` numbers, which fill whole blocks."""
        return count // self.numbers * self.bytes


def _q4_1(raw: np.ndarray) -> np.ndarray:
    """A byte holds two steps: of a number of the first half in its low bits, of one of the second in its high bits."""
    blocks = raw.view(_Q4_1)
    steps = np.concatenate([blocks["pairs"] & 0xF, blocks["pairs"] >> 4], axis=1).astype(np.float32)
    scaled = blocks["scale"].astype(np.float32)[:, None] * steps
    return np.ravel(scaled + blocks["lowest"].astype(np.float32)[:, None])


def _q8_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.view(_Q8_0)
    return np.ravel(blocks["scale"].astype(np.float32)[:, None] * blocks["steps"].astype(np.float32))


FORMATS = {
    0: NumberFormat("F32", 1, 4, lambda raw: raw.view("<f4").astype(np.float32)),
    1: NumberFormat("F16", 1, 2, lambda raw: raw.view("<f2").astype(np.float32)),
    3: NumberFormat("Q4_1", BLOCK, _Q4_1.itemsize, _q4_1),
    8: NumberFormat("Q8_0", BLOCK, _Q8_0.itemsize, _q8_0),
}
"""ggml's code of a format -> how it is read."""
