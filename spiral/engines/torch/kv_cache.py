"""Keys and values of the texts in flight in two preallocated buffers, and of prefixes worth keeping.

Separate from the engine, which decides which request stands on which row.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from spiral.engines.torch.transfer import to_device

Ids = tuple[int, ...]


class KeyValues:
    """See `RowCache`. Two buffers of shape (layers, rows, kv_heads, length, head_dim) that grow by doubling."""

    does_equal_work = True
    """See `RowCache`."""
    IDLE = 4
    """`trim` gives buffers back that are so many times what was asked for since it was last called."""

    def __init__(self, config: Any, max_rows: int, device: torch.device, dtype: torch.dtype) -> None:
        heads = config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        self._shape = (config.num_hidden_layers, kv_heads, head_dim)
        self._max_rows = max_rows + 1  # one more, to compute shared prefixes on
        self.generation = 0
        """Counts the buffers: those of another number are gone."""
        self.data = torch.empty(2, self._shape[0], 0, kv_heads, 0, head_dim, device=device, dtype=dtype)
        self._most_rows = self._most_length = 0
        """Asked for since the last `trim`."""

    @property
    def num_bytes(self) -> int:
        """Size of both buffers."""
        return self.data.nbytes

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` texts of `length` ids; what was written stays."""
        self._most_rows, self._most_length = max(self._most_rows, rows), max(self._most_length, length)
        _, _, old_rows, _, old_length, _ = self.data.shape
        if rows <= old_rows and length <= old_length:
            return
        layers, kv_heads, head_dim = self._shape
        new_rows = old_rows if rows <= old_rows else min(self._max_rows, max(rows, 2 * old_rows, 16))
        new_length = old_length if length <= old_length else max(length, 2 * old_length, 64)
        grown = self.data.new_zeros(2, layers, max(new_rows, rows), kv_heads, new_length, head_dim)
        grown[:, :, :old_rows, :, :old_length] = self.data
        self.data = grown
        self.generation += 1

    def trim(self) -> None:
        """Give back buffers that are much too large by now: a batch of illegal replies, each unlike the others, needs
        hundreds of rows, and a trained policy's a dozen. Only where nothing that was written is needed."""
        _, _, rows, _, length, _ = self.data.shape
        if rows * length > self.IDLE * max(16, self._most_rows) * max(64, self._most_length):
            self.data = self.data.new_empty(2, self._shape[0], 0, self._shape[1], 0, self._shape[2])
            self.generation += 1
        self._most_rows = self._most_length = 0

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """Copy whole rows, (source, target) each; every source is read before a target is written."""
        if pairs:
            sources, targets = to_device(list(zip(*pairs, strict=True)), self.data.device)
            self.data[:, :, targets] = self.data[:, :, sources]

    def read(self, row: int, length: int) -> Tensor:
        """A copy of the first `length` positions of a row, (2, layers, kv_heads, length, head_dim)."""
        return self.data[:, :, row, :, :length].clone()

    def write(self, row: int, kept: Tensor) -> None:
        """Put what `read` returned at the start of a row."""
        self.data[:, :, row, :, : kept.shape[3]] = kept

    def window(self, first: int, last: int, positions: Tensor, span: int) -> Window:
        """A transformers Cache over rows first..last-1; new keys go to `positions` (n, T), all below `span`."""
        return Window(self.data[:, :, first:last, :, :span], positions)

    def mask(self, places: Tensor, span: int) -> Tensor:
        """0 up to each token's place (n, T), -inf behind it; each layer would turn bools into this."""
        behind = torch.arange(span, device=places.device) > places[..., None]
        return torch.zeros(behind.shape, device=places.device, dtype=self.data.dtype).masked_fill_(behind, -math.inf)[
            :, None
        ]


class Window(Cache):
    """Writes each layer's new keys and values in place and hands back whole rows, (n, kv_heads, span, head_dim)."""

    def __init__(self, data: Tensor, positions: Tensor) -> None:
        # Not Cache.__init__: nothing is allocated per layer here, and this is made once a token.
        self._data = data
        self._positions = positions
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """`key_states`, `value_states`: (n, kv_heads, T, head_dim) of one layer."""
        k, v = self._data[0, layer_idx], self._data[1, layer_idx]
        k[self._rows, :, self._positions] = key_states.transpose(1, 2)
        v[self._rows, :, self._positions] = value_states.transpose(1, 2)
        return k, v

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Never read, since positions are always given; transformers' interface asks for it."""
        return int(self._data.shape[4])


class PrefixCache:
    """What is kept of prefixes that at least two texts began with, cut at multiples of BLOCK ids."""

    BLOCK = 32
    MAX_TOKENS = 65_536
    MAX_SEEN = 1_000_000

    def __init__(self) -> None:
        self._kept: dict[Ids, Any] = {}
        self._seen: set[int] = set()
        """Hashes: a collision computes one prefix for nothing, and the texts themselves would fill the memory."""

    def __getitem__(self, prefix: Ids) -> Any:
        return self._kept[prefix]

    def clear(self) -> None:
        """Forget all: the weights changed."""
        self._kept.clear()
        self._seen.clear()

    def missing(self, texts: list[Ids]) -> list[Ids]:
        """Prefixes to compute before `texts`, shortest first: each text's longest that another text shares."""
        batch = Counter(prefix for text in texts for prefix in self._prefixes(text))
        wanted = set()
        for text in texts:
            shared = (p for p in self._prefixes(text) if batch[p] > 1 or hash(p) in self._seen)
            longest = next(shared, None)
            if longest is not None and longest not in self._kept:
                wanted.add(longest)
        if len(self._seen) > self.MAX_SEEN:
            self._seen.clear()
        self._seen.update(map(hash, batch))
        return sorted(wanted, key=len)

    def longest(self, text: Ids) -> Ids:
        """The longest kept prefix of a text, shorter than the text itself; () if none is kept."""
        return next((p for p in self._prefixes(text) if p in self._kept), ())

    def keep(self, prefix: Ids, kept: Any) -> None:
        """Store what `RowCache.read` returned; old ones go when MAX_TOKENS are kept."""
        self._kept[prefix] = kept
        while sum(map(len, self._kept)) > self.MAX_TOKENS and len(self._kept) > 1:
            del self._kept[next(iter(self._kept))]

    def _prefixes(self, text: Ids) -> list[Ids]:
        """Longest first; at least one id of the text is left over, since its logits are wanted."""
        last = (len(text) - 1) // self.BLOCK * self.BLOCK
        return [text[:length] for length in range(last, 0, -self.BLOCK)]
