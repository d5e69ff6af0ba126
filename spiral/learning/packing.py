"""Packs trajectories and advantages into the tensors of an update.

Three savings, all exact. Equal replies are merged, see `samples`. Turns of a transcript, each of which goes on where
the last one ended, are one sequence, which costs its own length and trains every reply in it. Sequences that share a
beginning become branches of a tree in one row, where each token attends to its own ancestors only, so a shared prompt
is paid once, as far as that costs less than attention between branches that never meet: see `row_cost`. All others are
plain rows without a mask. Rows are padded on the right to the longest of their micro-batch; sorted by length, that is
6% of the tokens of a step of Kuhn poker and 17% of one of tic-tac-toe, whose trees differ more in length. With an
attention that skips what no token may see they stand after one another instead: see `row_layout`.

B rows, T tokens a row, N trained tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from spiral.api.records import Trajectory
from spiral.learning.anchor import Target, random_play_targets
from spiral.learning.minibatches import draw_minibatches
from spiral.learning.row_cost import RowCost
from spiral.learning.row_layout import padded, unpadded
from spiral.learning.samples import Sample, merge

MASKED_TOKENS = 256
"""Longest plain row that may share a micro-batch, and so a mask, with trees: a quarter dearer, at most, and one forward
pass of few tokens less."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Tensors of one forward pass."""

    ids: Tensor
    """(B, T)"""
    positions: Tensor
    """(B, T), the place of a token in its own sequence."""
    mask: Tensor | None
    """(B, 1, T, T) bool, True where a token may attend; None for plain causal rows, and where `last` says it."""
    rows: Tensor
    """(N,) the row of the token that predicts trained token n."""
    columns: Tensor
    """(N,) and its place in the row."""
    targets: Tensor
    """(N,) the trained ids."""
    logprobs: Tensor
    """(N,) their log-probabilities at sampling, nats."""
    positive: Tensor
    """(N,) sums of positive advantages."""
    negative: Tensor
    """(N,) sums of negative advantages."""
    count: Tensor
    """(N,) how many turns each trained token stands for."""
    samples: Tensor
    """(N,) the number of the sample that each trained token belongs to."""
    anchored: Tensor
    """(M,) ascending: the trained tokens, by their place in (N,), at which random legal play is known; one stands here
    once for each token that random legal play could say there."""
    anchor_ids: Tensor
    """(M,) those tokens' ids."""
    anchor_probs: Tensor
    """(M,) and their probabilities in random legal play."""
    last: Tensor | None = None
    """(B, T) of rows without padding: the last column that may attend to each token; None for padded rows."""
    bounds: Tensor | None = None
    """Of such rows without a tree: see `spiral.models.attention.text_bounds`."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        fields = (getattr(self, name) for name in self.__slots__)
        return MicroBatch(*(None if f is None else f.to(device) for f in fields))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Everything one optimiser step trains on."""

    micro_batches: tuple[MicroBatch, ...]
    num_turns: int
    """Turns with a reply, of all processes, before merging."""
    num_reply_tokens: int
    """Trained tokens of all processes before merging."""
    num_sequence_tokens: int
    """Prompt and reply tokens before merging and sharing: what one padded-free row a turn would cost."""
    num_computed_tokens: int
    """Tokens that go through this process's model, padding included."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything one update trains on."""

    minibatches: tuple[MiniBatch, ...]
    """At least one, in the order of their optimiser steps."""

    @property
    def micro_batches(self) -> tuple[MicroBatch, ...]:
        """Of all minibatches."""
        return tuple(micro_batch for part in self.minibatches for micro_batch in part.micro_batches)

    @property
    def num_turns(self) -> int:
        """See `MiniBatch`; so the other sums."""
        return sum(part.num_turns for part in self.minibatches)

    @property
    def num_reply_tokens(self) -> int:
        return sum(part.num_reply_tokens for part in self.minibatches)

    @property
    def num_sequence_tokens(self) -> int:
        return sum(part.num_sequence_tokens for part in self.minibatches)

    @property
    def num_computed_tokens(self) -> int:
        return sum(part.num_computed_tokens for part in self.minibatches)


def pack(
    trajectories: Sequence[Trajectory],
    advantages: Sequence[Sequence[float]],
    micro_batch_tokens: int,
    rank: int = 0,
    world: int = 1,
    minibatches: int = 1,
    seed: int = 0,
    cost: RowCost | None = None,
) -> Batch:
    """The batch of one update, or the `rank`-th of `world` parts of it, in `minibatches` that are drawn from `seed`.

    `cost`: of rows in the model that is trained, None for a narrow one; what is learned does not depend on it.
    """
    parts = draw_minibatches(trajectories, minibatches, seed)
    whole = len(parts) == 1
    return Batch(
        tuple(
            _pack_part(
                trajectories if whole else [trajectories[place] for place in part],
                advantages if whole else [advantages[place] for place in part],
                micro_batch_tokens,
                rank,
                world,
                cost,
            )
            for part in parts
        )
    )


def _pack_part(
    trajectories: Sequence[Trajectory],
    advantages: Sequence[Sequence[float]],
    micro_batch_tokens: int,
    rank: int,
    world: int,
    cost: RowCost | None,
) -> MiniBatch:
    # Every process merges all samples and takes every world-th sequence: what one sums up is never split.
    samples = merge(trajectories, advantages)
    own = [s for chain in _chains(samples)[rank::world] for s in chain]
    micro_batches = pack_samples(own, micro_batch_tokens, cost)
    return MiniBatch(
        micro_batches,
        num_turns=sum(s.count for s in samples),
        num_reply_tokens=sum(s.count * s.num_trained for s in samples),
        num_sequence_tokens=sum(s.count * (len(s.prompt) + len(s.reply)) for s in samples),
        num_computed_tokens=sum(m.ids.numel() for m in micro_batches),
    )


def pack_samples(
    samples: Sequence[Sample], micro_batch_tokens: int, cost: RowCost | None = None
) -> tuple[MicroBatch, ...]:
    """The tensors of samples that are sorted by ids; `MicroBatch.samples` counts them from 0. `cost`: see `pack`."""
    cost = cost or RowCost()
    return tuple(_micro_batches(_rows(samples, micro_batch_tokens, cost), micro_batch_tokens, cost.pads))


def filler() -> MicroBatch:
    """A micro-batch whose one trained token stands for no turn, so that every sum over it is 0: for a process that has
    no more of its own while others do."""
    row = _Row()
    row.add(0, Sample((0,), (0,), (0.0,)), 0)
    return _tensors([row])


class _Row:
    """A row under construction: a forest of sequences whose shared beginnings stand once."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segments: list[tuple[int, int, int]] = []
        """(start, end, parent): tokens start..end-1 follow each other, the first follows token `parent` or nothing."""
        self.trained: list[tuple[int, int, float, float, float, int, int]] = []
        """(source column, target id, log-prob, positive, negative, count, sample)"""
        self.anchors: list[Target] = []
        """(trained token, id, probability in random legal play)"""
        self._path: list[int] = []
        """Columns of the last sequence added, one a token."""

    def add(self, number: int, sample: Sample, shared: int) -> None:
        """Append the sequence of sample `number`, whose first `shared` ids are those of the one added before."""
        ids = sample.prompt + sample.reply
        start = len(self.ids)
        path = self._path[:shared]
        end = start + len(ids) - shared
        if path and path[-1] == start - 1:  # goes on where the last one ended, as a later turn of a transcript does
            self.segments[-1] = (self.segments[-1][0], end, self.segments[-1][2])
        elif shared < len(ids):
            self.segments.append((start, end, path[-1] if path else -1))
        path += range(start, start + len(ids) - shared)
        self.ids += ids[shared:]
        self.positions += range(shared, len(ids))
        first, places = len(sample.prompt), dict[int, int]()
        # The token that predicts the first reply id is the prompt's last one, which may stand in another segment.
        for offset, token, logprob in sample.trained():
            places[offset] = len(self.trained)
            sums = (sample.positive, sample.negative, sample.count)
            self.trained.append((path[first + offset - 1], token, logprob, *sums, number))
        for offset, token, probability in random_play_targets(sample.reply, sample.legal_replies or ()):
            if offset in places:
                self.anchors.append((places[offset], token, probability))
        self._path = path

    @property
    def is_plain(self) -> bool:
        return len(self.segments) == 1

    @property
    def is_long(self) -> bool:
        """Whether it is too long for a mask, which one tree gives to all rows of its micro-batch."""
        return self.is_plain and len(self.ids) > MASKED_TOKENS


def _chains(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples, sorted by ids, in groups in which each sequence goes on where the one before it ended."""
    chains: list[list[Sample]] = []
    last: tuple[int, ...] = ()
    for sample in samples:
        ids = sample.prompt + sample.reply
        if chains and ids[: len(last)] == last:
            chains[-1].append(sample)
        else:
            chains.append([sample])
        last = ids
    return chains


def _rows(samples: Sequence[Sample], max_tokens: int, cost: RowCost) -> list[_Row]:
    """Samples, sorted by ids, as plain rows or as trees, whichever costs less; no tree is longer than `max_tokens`."""
    chains = _chains(samples)
    # The last sample of a chain holds all the others.
    longest = [chain[-1].prompt + chain[-1].reply for chain in chains]
    shared = [0, *(_common(a, b) for a, b in pairwise(longest))][: len(chains)]
    rows: list[_Row] = []
    number = 0
    for chain, sequence, common in zip(chains, longest, shared, strict=True):
        if not rows or not _joins(rows[-1], len(sequence), common, max_tokens, cost):
            rows.append(_Row())
            common = 0
        for sample in chain:
            length = len(sample.prompt) + len(sample.reply)
            rows[-1].add(number, sample, min(common, length))
            common, number = length, number + 1
    return rows


def _joins(row: _Row, num_tokens: int, common: int, max_tokens: int, cost: RowCost) -> bool:
    """Whether a sequence of `num_tokens`, of which `common` the row's last one has, is a branch in that row."""
    grown = len(row.ids) + num_tokens - common
    if grown > min(max_tokens, cost.best_length(common)):
        return False
    now = cost.plain(len(row.ids)) if row.is_plain else cost.tree(len(row.ids))
    return cost.tree(grown) - now <= cost.plain(num_tokens)


def _micro_batches(rows: list[_Row], max_tokens: int, pads: bool) -> list[MicroBatch]:
    """Rows of like length together, at most `max_tokens` with the padding that they have if it `pads`, or one row."""
    batches: list[list[_Row]] = []
    # By length, so that little is padded; by ids too, so that the cut does not depend on the order of the samples.
    for row in sorted(rows, key=lambda r: (r.is_long, len(r.ids), r.ids)):
        if batches and _has_room(batches[-1], row, max_tokens, pads):
            batches[-1].append(row)
        else:
            batches.append([row])
    return [_tensors(batch, pads) for batch in batches]


def _has_room(batch: list[_Row], row: _Row, max_tokens: int, pads: bool) -> bool:
    """Whether a row, at least as long as those of a micro-batch, may join them."""
    if not pads:
        return sum(len(other.ids) for other in batch) + len(row.ids) <= max_tokens
    return batch[0].is_long == row.is_long and len(row.ids) * (len(batch) + 1) <= max_tokens


def _tensors(rows: list[_Row], pads: bool = True) -> MicroBatch:
    layout = padded(rows) if pads else unpadded(rows)
    places = zip(layout.starts, rows, strict=True)
    trained = [(index, start + source, *rest) for (index, start), row in places for source, *rest in row.trained]
    index, columns, targets, logprobs, positive, negative, count, samples = zip(*trained, strict=True)
    starts = accumulate((len(row.trained) for row in rows[:-1]), initial=0)
    anchors = [(start + place, *rest) for start, row in zip(starts, rows, strict=True) for place, *rest in row.anchors]
    return MicroBatch(
        layout.ids,
        layout.positions,
        layout.mask,
        torch.tensor(index),
        torch.tensor(columns),
        torch.tensor(targets),
        torch.tensor(logprobs),
        torch.tensor(positive),
        torch.tensor(negative),
        torch.tensor(count, dtype=torch.float32),
        torch.tensor(samples),
        torch.tensor([place for place, _, _ in anchors], dtype=torch.long),
        torch.tensor([token for _, token, _ in anchors], dtype=torch.long),
        torch.tensor([probability for _, _, probability in anchors]),
        layout.last,
        layout.bounds,
    )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
