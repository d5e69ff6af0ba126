"""How rows of texts lie in the tensors of one forward pass: beside each other, padded to the longest, with masks where
there are trees; or after one another in one row, without padding and without a mask of (T, T).

B rows, T tokens a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spiral.models.attention import text_bounds


class Row(Protocol):
    """A forest of sequences whose shared beginnings stand once, in the order in which it is walked through."""

    ids: list[int]
    positions: list[int]
    """Of each token in its sequence."""
    segments: list[tuple[int, int, int]]
    """(start, end, parent): tokens start..end-1 follow each other, the first follows token `parent` or nothing."""

    @property
    def is_plain(self) -> bool:
        """Whether it is one sequence."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors of one forward pass; see `MicroBatch`."""

    ids: Tensor
    positions: Tensor
    mask: Tensor | None
    last: Tensor | None
    bounds: Tensor | None
    starts: list[tuple[int, int]]
    """Of each row given: the row of the tensors that it is in, and the column at which it begins."""


def padded(rows: Sequence[Row]) -> Layout:
    """A row each, of the length of the longest; if one is a tree, all have a mask."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    masked = not all(row.is_plain for row in rows)
    positions = torch.tensor([_positions_to(row, width, masked) for row in rows])
    mask = torch.from_numpy(np.stack([_mask(row, width) for row in rows]))[:, None] if masked else None
    return Layout(ids, positions, mask, None, None, [(index, 0) for index in range(len(rows))])


def unpadded(rows: Sequence[Row]) -> Layout:
    """All in one row."""
    starts = list(accumulate((len(row.ids) for row in rows[:-1]), initial=0))
    ids = torch.tensor([[*chain.from_iterable(row.ids for row in rows)]])
    positions = np.fromiter(chain.from_iterable(row.positions for row in rows), dtype=np.int64)
    bounds = text_bounds(starts, len(positions)) if all(row.is_plain for row in rows) else None
    last = torch.from_numpy(last_attending(positions))[None]
    return Layout(ids, torch.from_numpy(positions)[None], None, last, bounds, [(0, start) for start in starts])


def last_attending(positions: np.ndarray) -> np.ndarray:
    """(T,) positions of the tokens of forests -> the last column that may attend to each: the one before the next token
    that stands no deeper in its sequence."""
    last = np.full(len(positions), len(positions) - 1)
    on_path, height = np.zeros(positions.max() + 1, dtype=np.int64), 0
    # Within a run each token follows the one before it, and closes none.
    runs = [0, *(np.flatnonzero(np.diff(positions) != 1) + 1).tolist(), len(positions)]
    for start, end in pairwise(runs):
        depth = int(positions[start])
        last[on_path[depth:height]] = start - 1
        height = depth + end - start
        on_path[depth:height] = np.arange(start, end)
    return last


def _mask(row: Row, width: int) -> np.ndarray:
    """(width, width) bool: each token sees itself and its ancestors; padding sees itself."""
    mask = np.zeros((width, width), dtype=bool)
    mask.flat[:: width + 1] = True
    triangle = np.tri(max(end - start for start, end, _ in row.segments), dtype=bool)
    for start, end, parent in row.segments:
        # A segment sees what its parent saw, which is complete: parents come before their children.
        if parent >= 0:
            mask[start:end] = mask[parent]
        mask[start:end, start:end] = triangle[: end - start, : end - start]
    return mask


def _positions_to(row: Row, width: int, masked: bool) -> list[int]:
    """The positions of a row's tokens and of the padding after them.

    Without a mask they go on: transformers takes positions that start again for another text in the same row, and makes
    a mask of (T, T) of it. Under a mask they do not: a tree beside it may be longer than the model's context.
    """
    num = len(row.ids)
    return row.positions + ([0] * (width - num) if masked else list(range(num, width)))
