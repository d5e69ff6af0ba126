"""Where patches end: a fixed function of the bytes up to there, so that prefill, steps and training cut alike.

Special ids always end a patch. Besides, by pooling: `fixed` ends one at every `patch` bytes; `spaces` with the first
byte that is in no word behind one that is (SpaceByte, arXiv 2404.14408); `entropy` where a table of two bytes says that
the next one is hard to tell (as BLT, arXiv 2412.09871, whose model is a neural one: its rounding could cut a text in
two ways). What ends a patch whatever its length is called a stop here, and depends on two ids; a patch of `patch` bytes
ends without one.

B rows, T tokens.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spiral_models.byte.config import NUM_BYTES, PAD_ID, VOCAB_SIZE
from spiral_models.patch.config import PatchConfig
from spiral_models.patch.entropy import NEWLINE, unpacked

BEFORE = PAD_ID
"""What stands before a text's first byte: any special id."""


class Ends(NamedTuple):
    """Patches of rows of bytes; a place counts the bytes of a text from 0."""

    end: Tensor
    """(B, T) bool: a patch ends with this byte."""
    length: Tensor
    """(B, T): bytes of its patch up to this one."""
    stop: Tensor
    """(B, T): place of the last stop up to this byte, -1 if there is none."""


class Boundaries(nn.Module):
    """The rule of a configuration as a table, which follows from that alone and is not saved beside it."""

    stops: Tensor

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        self.patch, self._config = config.patch, config
        self.register_buffer("stops", self.compute(), persistent=False)

    def compute(self) -> Tensor:
        """(VOCAB_SIZE ** 2,) bool, by the id before and the id."""
        table = np.zeros((VOCAB_SIZE, VOCAB_SIZE), dtype=bool)
        if self._config.pooling == "spaces":
            word = np.zeros(VOCAB_SIZE, dtype=bool)
            word[list((string.ascii_letters + string.digits).encode())] = True
            word[128:NUM_BYTES] = True  # of letters beyond ASCII
            table[np.ix_(word, ~word)] = True
        elif self._config.pooling == "entropy":
            table[:NUM_BYTES, :NUM_BYTES] = unpacked(self._config.stops)
            # A text begins as a line does, and so does what follows a special id.
            table[NUM_BYTES:] = table[NEWLINE]
        table[:, NUM_BYTES:] = True
        return torch.from_numpy(table.reshape(-1))

    def is_stop(self, ids: Tensor, previous: Tensor) -> Tensor:
        """(B, T) bool; `previous`: the id before each, BEFORE for a first one."""
        return self.stops[previous * VOCAB_SIZE + ids]

    def ends(self, stop: Tensor, places: Tensor, last: Tensor) -> Ends:
        """Of bytes that follow each other at `places` (B|1, T). `last`: (B, 1), the place of the last stop before
        them, -1 if there is none."""
        stops = torch.where(stop, places, -1).cummax(-1).values
        stops = torch.maximum(stops, last)
        before = torch.cat((last, stops[:, :-1]), -1)
        return self.after(stop, places - before, stops)

    def after(self, stop: Tensor, since: Tensor, stops: Tensor) -> Ends:
        """`since`: (B, T), bytes since the last stop before each, itself included."""
        return Ends(stop | (since % self.patch == 0), (since - 1) % self.patch + 1, stops)
