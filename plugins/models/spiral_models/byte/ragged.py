"""Where the new tokens of texts stand in one pass over all of them: without padding, those of one policy together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

ROUND = 16
"""A pass with prompts has so many tokens of each policy, or a multiple, since kernels are made for each number."""


class Group:
    """Lines of several policies, sorted by policy."""

    def __init__(self, policies: np.ndarray, num_policies: int) -> None:
        """`policies`: (n,), of each line as it was given."""
        first = int(policies[0]) if len(policies) else 0
        self.only: int | None = first if not (policies != first).any() else None
        """The policy that all lines belong to, if there is one: then they stand as they were given."""
        self.num = len(policies)
        if self.only is None:
            self._order = np.argsort(policies, kind="stable")
            self.order = torch.from_numpy(self._order)
            """(n,): the line as given that stands at each place when sorted."""
            self._place = np.empty_like(self._order)
            self._place[self._order] = np.arange(len(policies))
            self.place = torch.from_numpy(self._place)
            """(n,): where each line as given stands when sorted."""
            self.counts = np.bincount(policies, minlength=num_policies).tolist()
            """Lines of each policy."""
            self.ends = torch.tensor(self.counts, dtype=torch.int32).cumsum(0, dtype=torch.int32)
            """(policies,): how many lines stand up to the last of each policy."""
            self.mean = len(policies) / sum(count > 0 for count in self.counts)
            """Lines of a policy that has some."""

    def sorted(self, lines: np.ndarray) -> np.ndarray:
        """Lines as given -> sorted."""
        return lines if self.only is not None else lines[self._order]

    def places(self, lines: np.ndarray) -> np.ndarray:
        """Numbers of lines as given -> where they stand when sorted."""
        return lines if self.only is not None else self._place[lines]


@dataclass(frozen=True, slots=True)
class Wide:
    """The rows that have several new tokens, padded to the most of them, T."""

    row: int
    """The first of them."""
    num: int
    span: int
    """Places that they attend over."""
    tokens: Tensor
    """(num * T,): the token that stands at each place of the padded rows, where it is none their last one."""
    mask: Tensor | None
    """(num, 1, T, span) to add to scores; None where each token attends to all before it, and T is the span."""


class Ragged:
    """Rows first..first+n-1: leading ones with one new token each, and then such with several. All new tokens are in
    one line: as given, row after row; in the pass sorted by policy."""

    def __init__(
        self,
        first: int,
        ids: Sequence[Sequence[int]],
        starts: Sequence[int],
        policies: Sequence[int],
        num_policies: int,
    ) -> None:
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        start, policy = np.array(starts), np.array(policies)
        self.first = first
        self.num_steps = len(ids) if (lengths == 1).all() else int((lengths > 1).argmax())
        """Rows that have one new token each."""
        ends = lengths.cumsum()
        row = np.repeat(np.arange(len(ids)), lengths)
        column = np.arange(len(row)) - (ends - lengths)[row]
        given = np.fromiter(chain.from_iterable(ids), np.int64, len(row))
        if has_wide := self.num_steps < len(ids):
            taken = _rounded(policy[row])
            row, column, given = (line[taken] for line in (row, column, given))
        self.tokens = Group(policy[row], num_policies)
        self.rows = Group(policy, num_policies) if has_wide else self.tokens
        self.ids = _tensor(self.tokens.sorted(given))
        only = self.tokens.only
        self.policies = _tensor(self.tokens.sorted(policy[row])) if only is None else only
        """(N,), or the one that all tokens are of."""
        self.places = _tensor(self.tokens.sorted(start[row] + column))
        self.cache_rows = _tensor(self.tokens.sorted(first + row))
        self.last = _tensor(self.tokens.places(self.rows.sorted(ends - 1)))
        """(n,): the last token of each row, rows sorted by policy."""
        self.last_places = start + lengths - 1
        """(n,), rows as given."""
        self.wide = self._wide(start, lengths, ends) if has_wide else None
        self.unpadded = None if only is not None else self.tokens.order
        """(N,): of each token, sorted, its place among the steps and then the padded rows; None where it is its own."""
        if has_wide:
            behind = self.num_steps + (row - self.num_steps) * int(lengths.max()) + column
            self.unpadded = _tensor(self.tokens.sorted(np.where(row < self.num_steps, row, behind)))

    def mask(self, num_rows: int, heads: int) -> tuple[int, Tensor]:
        """What the last tokens of the first `num_rows` rows attend over: the span, and (num_rows * heads, 1, span) to
        add to scores."""
        places = self.last_places[:num_rows]
        span = int(places.max()) + 1
        return span, _mask(np.repeat(places, heads)[:, None], span)

    def _wide(self, start: np.ndarray, lengths: np.ndarray, ends: np.ndarray) -> Wide:
        start, lengths, ends = (x[self.num_steps :] for x in (start, lengths, ends))
        column = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
        tokens = _tensor(self.tokens.places(((ends - lengths)[:, None] + column).ravel()))
        places = start[:, None] + column
        span = int(places.max()) + 1
        mask = _mask(places, span)[:, None] if start.any() else None
        return Wide(self.first + self.num_steps, len(start), span, tokens, mask)


def _mask(places: np.ndarray, span: int) -> Tensor:
    """(..., span) to add to scores of tokens at places (...): 0 up to each one's own, -inf behind it."""
    behind = np.arange(span) > places[..., None]
    return torch.from_numpy(np.where(behind, np.float32(-np.inf), np.float32(0)))


def _rounded(policies: np.ndarray) -> np.ndarray:
    """Numbers of tokens of these policies: each, and the last of each policy again, up to a multiple of ROUND. What
    stands there twice is computed, and kept in its place, twice."""
    found, behind = np.unique(policies[::-1], return_index=True)
    missing = -np.bincount(policies)[found] % ROUND
    return np.concatenate((np.arange(len(policies)), np.repeat(len(policies) - 1 - behind, missing)))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
