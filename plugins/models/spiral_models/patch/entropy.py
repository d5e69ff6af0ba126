"""How hard the byte after two bytes is to tell: entropies of a small n-gram model, counted on a text.

A table of 65,536 contexts and no neural model: a lookup gives every caller the same number to the bit. Bits are kept
in units of 1/31, in a byte each.
"""

from __future__ import annotations

import base64
import functools
import zlib
from pathlib import Path

import numpy as np

from spiral import SpiralError
from spiral_models.byte.config import NUM_BYTES

NEWLINE = 10
UNITS = np.float32(31.0)
"""Of a bit: 8 bits are 248."""
WEIGHT = 4.0
"""How many bytes seen the shorter context counts for, beside those that were seen after the longer one."""
TABLE = Path(__file__).with_name("entropies.npz")
"""Fitted by `python -m tools.fit_entropies`."""


def fit_entropies(text: bytes) -> np.ndarray:
    """(256, 256) uint8: entropy of the next byte by the two before it, in units; the first axis is the earlier one.

    Counts of three bytes are backed off to two, those to one and that to uniform, each by adding `WEIGHT` bytes of the
    shorter context's distribution (Witten and Bell 1991, with a constant in place of their count of kinds).
    """
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
    one = _mixed(np.bincount(codes, minlength=NUM_BYTES)[None], np.full((1, NUM_BYTES), 1 / NUM_BYTES))
    pairs = np.bincount(codes[:-1] * NUM_BYTES + codes[1:], minlength=NUM_BYTES**2)
    two = _mixed(pairs.reshape(NUM_BYTES, NUM_BYTES), one)
    triples = np.bincount((codes[:-2] * NUM_BYTES + codes[1:-1]) * NUM_BYTES + codes[2:], minlength=NUM_BYTES**3)
    bits = [_bits(_mixed(counts, two)) for counts in triples.reshape(NUM_BYTES, NUM_BYTES, NUM_BYTES)]
    found: np.ndarray = np.round(np.stack(bits) * UNITS).astype(np.uint8)
    return found


def stops_by(path: str | None, threshold: float) -> str:
    """The pairs of bytes after which the next one has more bits of entropy than `threshold`, packed as a configuration
    keeps them: by the table that is shipped, or by the bytes of a file.

    Raises SpiralError for a file that cannot be read or says too little.
    """
    entropies = default_entropies() if path is None else fit_entropies(_text(path)).astype(np.float32) / UNITS
    return packed(entropies > threshold)


def packed(stops: np.ndarray) -> str:
    """(256, 256) bool as text: bits, compressed, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(stops).tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """What `packed` was given."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(bits).reshape(NUM_BYTES, NUM_BYTES).astype(bool)


@functools.cache
def default_entropies() -> np.ndarray:
    """(256, 256) float32 bits: those of this project's documentation, games' rules and random games."""
    with np.load(TABLE, allow_pickle=False) as saved:
        entropies: np.ndarray = saved["entropies"].astype(np.float32) / UNITS
    return entropies


def _text(path: str) -> bytes:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise SpiralError(
            f"entropy_text {path!r} cannot be read ({error.strerror}); give a file of text that is like what is played"
        ) from error
    if len(text) < NUM_BYTES:
        raise SpiralError(
            f"entropy_text {path!r} has {len(text)} bytes, too few to count by; give a file of {NUM_BYTES} or more"
        )
    return text


def _mixed(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Distributions (..., 256) over the next byte."""
    totals = counts.sum(-1, keepdims=True)
    mixed: np.ndarray = (counts + WEIGHT * shorter) / (totals + WEIGHT)
    return mixed


def _bits(distributions: np.ndarray) -> np.ndarray:
    """Entropies of (..., 256)."""
    bits: np.ndarray = -(distributions * np.log2(distributions)).sum(-1)
    return bits
