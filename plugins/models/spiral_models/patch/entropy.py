"""How hard the byte after two bytes is to tell: entropies of a small n-gram model, counted on a text.

A table of 65,536 contexts and no neural model: a lookup gives every caller the same number to the bit. Bits are kept
in units of 1/31, in a byte each.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from spiral import SpiralError
from spiral_models.byte.config import NUM_BYTES

NEWLINE = 10
UNITS = 31.0
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


def entropies_of(path: str) -> np.ndarray:
    """(256, 256) float32 bits, fitted on the bytes of a file. Raises SpiralError for one that cannot be read or says
    too little."""
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
    return as_bits(fit_entropies(text))


def as_bits(units: np.ndarray) -> np.ndarray:
    """float32"""
    return units.astype(np.float32) / np.float32(UNITS)


@functools.cache
def default_entropies() -> np.ndarray:
    """(256, 256) float32 bits: those of this project's documentation, games' rules and random games."""
    with np.load(TABLE, allow_pickle=False) as saved:
        return as_bits(saved["entropies"])


def _mixed(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Distributions (..., 256) over the next byte."""
    totals = counts.sum(-1, keepdims=True)
    mixed: np.ndarray = (counts + WEIGHT * shorter) / (totals + WEIGHT)
    return mixed


def _bits(distributions: np.ndarray) -> np.ndarray:
    """Entropies of (..., 256)."""
    bits: np.ndarray = -(distributions * np.log2(distributions)).sum(-1)
    return bits
