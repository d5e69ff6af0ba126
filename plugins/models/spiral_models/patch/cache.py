"""What a patched model keeps of the texts in flight, all of it by place in a text and nothing running, so that a row
can be copied, cut at any id and gone on with.

Apart from the engine, which decides which text stands on which row and knows this by its `RowCache` protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spiral_models.byte.attention import RotaryTable, Rotation, attend
from spiral_models.patch.boundaries import BEFORE
from spiral_models.patch.config import PatchConfig
from spiral_models.patch.local_attention import band, in_blocks, num_blocks
from spiral_models.patch.rows import Parts, whole_tiles

_ID, _STOP, _ENDED = range(3)
"""Numbers kept of a byte: itself, the place of the last stop up to it, how many patches ended up to it."""
FEWEST_PATCHES, FEWEST_BYTES = 16, 64
"""Room of a row, at least."""


@dataclass
class _Buffers:
    """Each of (layers, rows, places, numbers), but the first, whose layers are its three numbers."""

    numbers: Tensor
    encoded: Tensor
    """What the encoder made of a byte, of which patches are pooled."""
    local: Tensor
    """Keys and values of a byte in each local layer."""
    core: Tensor
    """Keys and values of a patch in each layer of the core."""
    patches: Tensor
    """What the core made of a patch. Patches are counted from 1; in the place of 0 is what stands before the first."""

    @property
    def of_bytes(self) -> tuple[Tensor, ...]:
        return self.numbers, self.encoded, self.local

    @property
    def of_patches(self) -> tuple[Tensor, ...]:
        return self.core, self.patches

    @property
    def all(self) -> tuple[Tensor, ...]:
        return (*self.of_bytes, *self.of_patches)


class PatchCache:
    """See `spiral.models.row_cache.RowCache`. Buffers grow by doubling, those of patches as patches end."""

    IDLE = 4
    """`trim` gives buffers back that are so many times what was asked for since it was last called."""
    does_equal_work = False
    """Which rows the core computes depends on the bytes, so no pass can be recorded."""

    def __init__(self, config: PatchConfig, max_rows: int, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config
        self._max_rows = max_rows + 1  # one more, to compute shared prefixes on
        self._like = torch.empty(0, device=device, dtype=dtype)
        self.generation = 0
        """Counts the buffers: those of another number are gone."""
        self.data = self._made(0, 0, 0)
        self._most_rows = self._most_length = 0
        """Asked for since the last `trim`."""

    @property
    def num_bytes(self) -> int:
        """Size of all buffers."""
        return sum(buffer.nbytes for buffer in self.data.all)

    def mask(self, places: Tensor, span: int) -> None:
        """None: a window knows who sees whom."""

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` texts of `length` ids; what was written stays."""
        self._most_rows, self._most_length = max(self._most_rows, rows), max(self._most_length, length)
        _, old_rows, old_length, _ = self.data.encoded.shape
        if rows <= old_rows and length <= old_length:
            return
        new_rows = old_rows if rows <= old_rows else min(self._max_rows, max(rows, 2 * old_rows, 16))
        new_length = old_length if length <= old_length else max(length, 2 * old_length, FEWEST_BYTES)
        self._grow(max(new_rows, rows), new_length, max(self.data.patches.shape[2], FEWEST_PATCHES))

    def reserve_patches(self, num: int) -> None:
        """Make room for so many patches in each row."""
        room = self.data.patches.shape[2]
        if num >= room:
            _, rows, length, _ = self.data.encoded.shape
            self._grow(rows, length, max(num + 1, 2 * room))

    def trim(self) -> None:
        """Give back buffers that are much too large by now. Only where nothing that was written is needed."""
        _, rows, length, _ = self.data.encoded.shape
        if rows * length > self.IDLE * max(16, self._most_rows) * max(FEWEST_BYTES, self._most_length):
            self.data = self._made(0, 0, 0)
            self.generation += 1
        self._most_rows = self._most_length = 0

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """Copy whole rows, (source, target) each; every source is read before a target is written."""
        if pairs:
            sources, targets = torch.tensor(list(zip(*pairs, strict=True)), device=self._like.device)
            for buffer in self.data.all:
                buffer[:, targets] = buffer[:, sources]

    def read(self, row: int, length: int) -> _Buffers:
        """A copy of the first `length` ids of a row and of the patches that end in them."""
        patches = int(self.data.numbers[_ENDED, row, length - 1, 0]) + 1
        of_bytes = (buffer[:, row, :length].clone() for buffer in self.data.of_bytes)
        return _Buffers(*of_bytes, *(buffer[:, row, :patches].clone() for buffer in self.data.of_patches))

    def write(self, row: int, kept: _Buffers) -> None:
        """Put what `read` returned at the start of a row."""
        self.reserve_patches(kept.patches.shape[1])
        for buffer, part in zip(self.data.all, kept.all, strict=True):
            buffer[:, row, : part.shape[1]] = part

    def window(self, first: int, last: int, positions: Tensor, span: int) -> PatchWindow:
        """Rows first..last-1, for one forward pass over new ids at `positions` (n, T), which follow each other."""
        return PatchWindow(self, first, last, positions)

    def _grow(self, rows: int, length: int, patches: int) -> None:
        grown = self._made(rows, length, patches)
        for new, old in zip(grown.all, self.data.all, strict=True):
            new[:, : old.shape[1], : old.shape[2]] = old
        self.data = grown
        self.generation += 1

    def _made(self, rows: int, length: int, patches: int) -> _Buffers:
        c, new = self.config, self._like.new_zeros
        local = 2 * c.local_num_key_value_heads * c.local_head_dim
        return _Buffers(
            new((3, rows, length, 1), dtype=torch.long),
            new(1, rows, length, c.local_hidden_size),
            new(c.encoder_layers + c.decoder_layers, rows, length, local),
            new(c.num_hidden_layers, rows, patches, 2 * c.num_key_value_heads * c.head_dim),
            new(1, rows, patches, c.local_hidden_size),
        )


class PatchWindow:
    """Rows of a cache as one forward pass sees them, see `Rows`: the local layers run over the new bytes of all rows,
    the core over the patches that end in them."""

    ids: Tensor
    local_rotation: Rotation
    core_rotation: Rotation

    def __init__(self, cache: PatchCache, first: int, last: int, places: Tensor) -> None:
        self._cache, self._places = cache, places
        self._rows = torch.arange(first, last, device=places.device)[:, None]
        self._index = self._flat(places)
        """(n, T): the places of the new bytes in a buffer of all rows."""

    def begin(self, ids: Tensor, parts: Parts) -> None:
        """Cut the new ids (n, T) into patches."""
        boundaries, local, core, window, dtype = parts
        places, length = self._places, ids.shape[1]
        numbers = self._cache.data.numbers.view(3, -1)
        start = places[:, :1]
        known = numbers[:, self._flat((start - 1).clamp(min=0))]
        is_first = start == 0
        previous, stop = (known[n].masked_fill(is_first, none) for n, none in ((_ID, BEFORE), (_STOP, -1)))
        before = known[_ENDED].masked_fill(is_first, 0)
        ends = boundaries.ends(boundaries.is_stop(ids, torch.cat((previous, ids[:, :-1]), -1)), places, stop)
        self._ended = before + ends.end.cumsum(-1)
        numbers[:, self._index] = torch.stack((ids, ends.stop, self._ended))
        self._find_patches(ends.end, ends.length, before, core, dtype)
        positions = places.clamp(max=local.context - 1)  # of padding behind a text, which nothing sees
        if length == 1:
            self.ids, self.local_rotation = ids, local.at(positions)
            seen = places - torch.arange(window - 1, -1, -1, device=ids.device)
            mask = torch.zeros(seen.shape, dtype=dtype, device=ids.device)
            self._mask = mask.masked_fill_(seen < 0, -torch.inf)[:, None, None]
            self._seen = self._flat(seen.clamp(min=0))
            return
        missing = num_blocks(length, window) * window - length
        self.ids = F.pad(ids, (0, missing))
        cos, sin = local.at(positions)
        self.local_rotation = F.pad(cos, (0, 0, 0, missing)), F.pad(sin, (0, 0, 0, missing))
        earlier = start - torch.arange(window, 0, -1, device=ids.device)
        self._mask = band(window, num_blocks(length, window), earlier >= 0, dtype)
        self._seen = self._flat(earlier.clamp(min=0))

    def _find_patches(self, end: Tensor, length: Tensor, before: Tensor, core: RotaryTable, dtype: torch.dtype) -> None:
        """The rows in which patches end, r, and for each the ends of them, padded to M."""
        new = self._ended[:, -1:] - before
        has = new[:, 0] > 0
        self._ending = has.nonzero()[:, 0]
        """(r,)"""
        if not len(self._ending):
            return
        width = whole_tiles(int(new.max())) if end.shape[1] > 1 else 1
        self._numbers = before[self._ending] + torch.arange(1, width + 1, device=end.device)
        """(r, M): of the patches in their text, from 1; where a row has no more, those that come next."""
        self._span = whole_tiles(int(self._numbers[:, -1].max()))
        self._cache.reserve_patches(self._span)
        if end.shape[1] == 1:
            last, lengths = self._index[self._ending], length[self._ending]
        else:
            rows, columns = end.nonzero(as_tuple=True)
            at = (has.cumsum(0) - 1)[rows], self._ended[rows, columns] - 1 - before[rows, 0]
            empty = torch.zeros_like(self._numbers)
            last, lengths = (empty.index_put(at, x[rows, columns]) for x in (self._index, length))
        back = torch.arange(self._cache.config.patch, device=end.device)
        # A mean as a weighted sum over as many bytes as a patch may have: those of an earlier pass are in the cache.
        self._bytes = (last[..., None] - back).clamp(min=0).flatten(0, 1)
        inside = (back < lengths[..., None]).to(dtype) / lengths[..., None].clamp(min=1)
        self._shares = inside.flatten(0, 1)
        self.core_rotation = core.at((self._numbers - 1).clamp(max=core.context - 1))
        room = self._cache.data.core.shape[2]
        self._patch_rows = self._rows[self._ending]
        # What stands here for patches that a row has not is written too, behind those it has: no byte refers to it and
        # no patch sees it before the patch of that number is computed.
        self._kept = (self._patch_rows * room + self._numbers - 1).flatten()
        columns = torch.arange(self._span, device=end.device)
        unseen = columns >= self._numbers[..., None]
        blocked = torch.zeros(unseen.shape, dtype=dtype, device=end.device)
        self._core_mask = blocked.masked_fill_(unseen, -torch.inf)[:, None]

    def local_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        """Keeps the new keys and values too; of padding to whole blocks none."""
        data = self._cache.data.local[index].flatten(0, 1)
        num, length = self._places.shape
        new = torch.cat((key, value), 1).transpose(1, 2)[:, :length]
        kv_heads, head_dim = key.shape[1], key.shape[3]
        if length == 1:
            data.index_copy_(0, self._index[:, 0], new.reshape(num, -1))
            found = data.index_select(0, self._seen.flatten()).view(num, -1, 2 * kv_heads, head_dim).transpose(1, 2)
            keys, values = found.chunk(2, 1)
            return attend(query, keys, values, self._mask, is_causal=False)
        before = data.index_select(0, self._seen.flatten()).view(num, -1, 2, kv_heads, head_dim)
        data.index_copy_(0, self._index.flatten(), new.reshape(num * length, -1))
        return in_blocks(query, key, value, self._mask, (before[:, :, 0], before[:, :, 1]))

    def pooled(self, encoded: Tensor) -> Tensor | None:
        data = self._cache.data.encoded[0].flatten(0, 1)
        data.index_copy_(0, self._index.flatten(), encoded[:, : self._places.shape[1]].flatten(0, 1))
        if not len(self._ending):
            return None
        means = F.embedding_bag(self._bytes, data, mode="sum", per_sample_weights=self._shares)
        return means.view(*self._numbers.shape, -1)

    def core_attention(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        """Keeps the new keys and values too."""
        data = self._cache.data.core[index]
        kv_heads, head_dim = key.shape[1], key.shape[3]
        new = torch.cat((key, value), 1).transpose(1, 2)
        data.flatten(0, 1).index_copy_(0, self._kept, new.reshape(len(self._kept), -1))
        rows = data[:, : self._span].index_select(0, self._patch_rows[:, 0])
        found = rows.view(len(rows), self._span, 2 * kv_heads, head_dim).transpose(1, 2)
        keys, values = found.chunk(2, 1)
        return attend(query, keys, values, self._core_mask, is_causal=False)

    def contexts(self, patches: Tensor | None, start: Tensor) -> Tensor:
        data = self._cache.data.patches[0]
        data[self._rows[:, 0], 0] = start  # each time, since it belongs to the weights and not to the text
        if patches is not None:
            data[self._patch_rows, self._numbers] = patches
        found = data[self._rows, self._ended]
        return F.pad(found, (0, 0, 0, self.ids.shape[1] - found.shape[1]))

    def _flat(self, places: Tensor) -> Tensor:
        """Places (n, ...) of the rows in a buffer of all."""
        return self._rows * self._cache.data.encoded.shape[2] + places
