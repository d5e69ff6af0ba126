"""What a patched model computes over: rows of bytes, the patches that end in them, and who attends to whom.

Three kinds: plain causal rows here, trees of texts in `tree`, texts over a cache in `cache`. The model is one sequence
of layers over any of them.

B rows, T bytes a row, M patches a row, d numbers a byte.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from spiral_models.byte.attention import RotaryTable, Rotation, attend
from spiral_models.patch.boundaries import BEFORE, Boundaries
from spiral_models.patch.local_attention import band, in_blocks, num_blocks

TILE = 16
"""Patches of a row are padded to a multiple: products of other shapes round otherwise, so that without it a later byte,
by one patch more or less, would change the last bit of what stands before it."""


def whole_tiles(num: int) -> int:
    """At least `num` patches."""
    return -(-num // TILE) * TILE


class Parts(NamedTuple):
    """What all rows of a model are computed with."""

    boundaries: Boundaries
    local: RotaryTable
    core: RotaryTable
    window: int
    dtype: torch.dtype
    """Of what is added to scores."""


class Rows(Protocol):
    """The rows of one forward pass."""

    ids: Tensor
    """(B, T) as they are computed, which may be more than were given."""
    local_rotation: Rotation
    core_rotation: Rotation

    def local_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        """Of bytes, see `spiral_models.byte.block.Attention`."""

    def pooled(self, encoded: Tensor) -> Tensor | None:
        """(B, T, d) -> (R, M, d): the mean over the bytes of each patch that ends; None if none does."""

    def core_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        """Of patches."""

    def contexts(self, patches: Tensor | None, start: Tensor) -> Tensor:
        """(B, T, d): for each byte what the core made of the last patch that ended with it or before it, of `patches`
        (R, M, d) in the place of those pooled; `start` (d,) before the first."""


class PlainRows:
    """Causal rows, padded on the right: nothing real can see the padding."""

    def __init__(self, ids: Tensor, parts: Parts) -> None:
        """Raises ValueError past the context."""
        batch, length = ids.shape
        boundaries, local, core, window, dtype = parts
        blocks = num_blocks(length, window)
        missing = blocks * window - length
        self.ids = F.pad(ids, (0, missing))
        cos, sin = local.between(0, length)
        self.local_rotation = F.pad(cos, (0, 0, 0, missing)), F.pad(sin, (0, 0, 0, missing))
        nothing = torch.zeros(batch, window, dtype=torch.bool, device=ids.device)
        self._mask = band(window, blocks, nothing, dtype)
        first = torch.full_like(ids[:, :1], -1)
        previous = F.pad(ids[:, :-1], (1, 0), value=BEFORE)
        places = torch.arange(length, device=ids.device)[None]
        ends = boundaries.ends(boundaries.is_stop(ids, previous), places, first)
        self._ended = ends.end.cumsum(-1)
        """(B, T): patches that ended up to each byte, its own included."""
        # An unfinished patch may stand behind the finished ones, which do not see it.
        self._width = whole_tiles(int(self._ended[:, -1].max()))
        rows = torch.arange(batch, device=ids.device)[:, None] * (self._width + 1)
        self._patch = (rows + self._ended - ends.end.long()).flatten()
        """(B * T,): the patch of each byte, that which does not end included, among all of all rows."""
        self._last = (rows + self._ended).flatten()
        """(B * T,): the last one that ended, counted from 1 in each row."""
        lengths = ids.new_zeros(batch * (self._width + 1)).index_add_(0, self._patch, torch.ones_like(self._patch))
        self._lengths = lengths.view(batch, self._width + 1, 1)[:, : self._width].clamp(min=1)
        self.core_rotation = core.between(0, self._width)

    def local_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        return in_blocks(query, key, value, self._mask)

    def pooled(self, encoded: Tensor) -> Tensor | None:
        if not self._width:
            return None
        batch, width = len(encoded), encoded.shape[-1]
        sums = encoded.new_zeros(batch * (self._width + 1), width)
        bytes_ = encoded[:, : self._ended.shape[1]].flatten(0, 1)
        sums = sums.index_add(0, self._patch, bytes_).view(batch, self._width + 1, width)
        return sums[:, : self._width] / self._lengths

    def core_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        return attend(query, key, value, None, is_causal=query.shape[2] > 1)

    def contexts(self, patches: Tensor | None, start: Tensor) -> Tensor:
        batch, length = self._ended.shape
        known = start.expand(batch, 1, -1)
        if patches is not None:
            known = torch.cat((known, patches), 1)
        found = known.flatten(0, 1).index_select(0, self._last).view(batch, length, -1)
        return F.pad(found, (0, 0, 0, self.ids.shape[1] - length))
