"""Trees of texts in one row under a mask: each byte sees its ancestors, which stand before it. Patches of a tree are a
forest, and a byte may be in a patch of each of two branches.

B rows, T bytes a row, M patches a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spiral_models.byte.attention import attend
from spiral_models.patch.boundaries import BEFORE
from spiral_models.patch.rows import Parts


class Tree:
    """Rows under a mask, whose places are counted from it: a byte's is the number of its ancestors."""

    def __init__(self, ids: Tensor, seen: Tensor, parts: Parts) -> None:
        """`seen`: (B, T, T) bool, True where a byte may attend; itself it always does. Raises ValueError past the
        context."""
        self.ids = ids
        boundaries, local, core, window, dtype = parts
        columns = torch.arange(ids.shape[1], device=ids.device)
        before = seen & (columns < columns[:, None])
        seen = before | (columns == columns[:, None])
        place = before.sum(-1)
        parent = _last(before)
        previous = torch.where(parent < 0, BEFORE, ids.gather(1, parent.clamp(min=0)))
        stop = boundaries.is_stop(ids, previous)
        last_stop = _last(before & stop[:, None])
        stop_place = torch.where(last_stop < 0, -1, place.gather(1, last_stop.clamp(min=0)))
        ends = boundaries.after(stop, place - stop_place, stop_place)
        # Places, not columns: between a byte and its ancestors other branches may stand.
        near = seen & (place[:, :, None] - place[:, None] < window)
        self._local_mask = _additive(near, dtype)[:, None]
        self.local_rotation = local.at(place)
        self._members(ends.end, ends.length, parent, boundaries.patch)
        core_seen = seen.gather(1, self._ends[:, :, None].expand(-1, -1, ids.shape[1]))
        core_seen = core_seen.gather(2, self._ends[:, None].expand(-1, self._ends.shape[1], -1))
        self._core_mask = _additive(core_seen & self._is_patch[:, None], dtype)[:, None]
        number = (seen & ends.end[:, None]).sum(-1)
        self.core_rotation = core.at((number.gather(1, self._ends) - 1).clamp(min=0))
        # The column of the last end in sight, and its patch among those of the row, counted from 1.
        last_end = _last(seen & ends.end[:, None])
        self._last = torch.where(last_end < 0, 0, ends.end.cumsum(-1).gather(1, last_end.clamp(min=0)))

    def _members(self, end: Tensor, length: Tensor, parent: Tensor, longest: int) -> None:
        """The bytes of each patch, the last one first: a patch goes from its end up through the parents."""
        batch, width = len(end), int(end.sum(-1).max())
        self._is_patch = torch.arange(width, device=end.device) < end.sum(-1, keepdim=True)
        rows, columns = end.nonzero(as_tuple=True)
        self._ends = end.new_zeros(batch, width, dtype=torch.long)
        """(B, M): the columns at which patches end; 0 where a row has no more."""
        self._ends[rows, end.cumsum(-1)[rows, columns] - 1] = columns
        member, members = self._ends, []
        for _ in range(longest):
            members.append(member)
            member = parent.gather(1, member.clamp(min=0))
        chain = torch.stack(members, -1)
        lengths = length.gather(1, self._ends)[..., None]
        inside = torch.arange(longest, device=end.device) < lengths
        row = torch.arange(batch, device=end.device)[:, None, None] * end.shape[1]
        self._bytes = (row + chain.clamp(min=0))[inside]
        """(N,): bytes of all rows that are in a patch, and which patch of all rows each is in."""
        patch = torch.arange(batch * width, device=end.device).view(batch, width, 1)
        self._patch = patch.expand_as(inside)[inside]
        self._lengths = lengths

    def local_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        return attend(query, key, value, self._local_mask, is_causal=False)

    def pooled(self, encoded: Tensor) -> Tensor | None:
        batch, width = self._ends.shape
        if not width:
            return None
        bytes_ = encoded.flatten(0, 1).index_select(0, self._bytes)
        sums = encoded.new_zeros(batch * width, encoded.shape[-1]).index_add(0, self._patch, bytes_)
        return sums.view(batch, width, -1) / self._lengths

    def core_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        return attend(query, key, value, self._core_mask, is_causal=False)

    def contexts(self, patches: Tensor | None, start: Tensor) -> Tensor:
        batch, length = self._last.shape
        known = start.expand(batch, 1, -1)
        if patches is not None:
            known = torch.cat((known, patches), 1)
        rows = torch.arange(batch, device=known.device)[:, None] * known.shape[1]
        return known.flatten(0, 1).index_select(0, (rows + self._last).flatten()).view(batch, length, -1)


def _last(there: Tensor) -> Tensor:
    """(B, T, T) bool -> (B, T): the last column that is True in each row, -1 if none is."""
    columns = torch.arange(there.shape[-1], device=there.device, dtype=torch.int32)
    return torch.where(there, columns, -1).amax(-1).long()


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores. The lowest number, not -inf: a patch that is none may attend nowhere, and NaN would
    reach those that are."""
    lowest = torch.finfo(dtype).min / 2  # autocast would round the lowest one of float32 to -inf
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, lowest)
