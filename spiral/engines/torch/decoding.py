"""One token of every row in flight: on a CPU in the exact shape, on a GPU in few shapes that are recorded and replayed.

A decoding pass of a small batch is hundreds of kernels that each take less time than their launch, so on a GPU the
host would be what is waited for. A recorded pass is launched whole. It has fixed shapes: rows and span are rounded up
to powers of two, and rows without a text are computed for nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from spiral.engines.torch.transfer import to_device
from spiral.models.logits import TokenLogits
from spiral.models.row_cache import RowCache

Pass = Callable[[], Tensor]
"""Work on tensors that stay where they are; what it returns is overwritten by its next call."""
Record = Callable[[Pass], Pass]
"""Makes a pass that does the same work again, for less."""

SHORTEST_SPAN = 64
"""Ids that a recorded pass attends over, at least."""


class Decoder(Protocol):
    """Feeds rows their last ids."""

    def __call__(self, ids: Sequence[int], places: Sequence[int]) -> Tensor:
        """Logits (n, V) after `ids`, that of row i at place `places[i]` of its text; what is kept of it is written.
        Overwritten by the next call."""


class ExactDecoder:
    """Computes the rows and places there are and nothing else: a recorded run's bits depend on the shapes."""

    def __init__(self, lm: TokenLogits, keys: RowCache) -> None:
        self._lm, self._keys, self._device = lm, keys, lm.model.device

    def __call__(self, ids: Sequence[int], places: Sequence[int]) -> Tensor:
        span = max(places) + 1
        self._keys.reserve(len(ids), span)
        return _forward(self._lm, self._keys, to_device(ids, self._device), to_device(places, self._device), span)


class RecordedDecoder:
    """Computes powers of two of rows and places, each size recorded when it is first met."""

    def __init__(self, lm: TokenLogits, keys: RowCache, max_rows: int, record: Record) -> None:
        self._lm, self._keys, self._max_rows, self._record = lm, keys, max_rows, record
        self._device = lm.model.device
        self._recorded: dict[tuple[int, int], tuple[Tensor, Pass]] = {}
        """(rows, span) -> the ids and places (2, rows) that the pass reads, and the pass."""
        self._generation = -1

    def __call__(self, ids: Sequence[int], places: Sequence[int]) -> Tensor:
        num = len(ids)
        rows = min(_power_of_two(num), self._max_rows)
        span = max(SHORTEST_SPAN, _power_of_two(max(places) + 1))
        self._keys.reserve(rows, span)
        if self._keys.generation != self._generation:  # what was recorded writes to buffers that are gone
            self._recorded.clear()
            self._generation = self._keys.generation
        # Rows without a text write at their place 0, where nothing stands yet.
        padding = [0] * (rows - num)
        given = to_device([[*ids, *padding], [*places, *padding]], self._device)
        if (rows, span) not in self._recorded:
            self._recorded[rows, span] = self._new(given, span)
        inputs, run = self._recorded[rows, span]
        inputs.copy_(given)
        return run()[:num]

    def _new(self, given: Tensor, span: int) -> tuple[Tensor, Pass]:
        inputs = given.clone()
        return inputs, self._record(lambda: _forward(self._lm, self._keys, inputs[0], inputs[1], span))


class CudaGraphs:
    """Records passes as CUDA graphs that share one pool of memory, since one at a time is run."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Pass) -> Pass:
        """A graph of `work`; `work` itself, with a warning, where its model does what no graph can hold."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()  # libraries set themselves up in a first call, which a graph must not hold
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                out = work()
        except RuntimeError as error:
            warnings.warn(f"decoding is not recorded as a CUDA graph, and will be slower: {error}", stacklevel=2)
            return work

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay


def _forward(lm: TokenLogits, keys: RowCache, ids: Tensor, places: Tensor, span: int) -> Tensor:
    """Logits (n, V) after one id a row, (n,), at its place (n,); all places are below `span`."""
    rows = torch.arange(len(ids), device=ids.device)
    places = places[:, None]
    window, mask = keys.window(0, len(ids), places, span), keys.mask(places, span)
    logits: Tensor = lm(ids[:, None], places, mask, rows, torch.zeros_like(rows), window)
    return logits


def _power_of_two(number: int) -> int:
    """The lowest that is not below `number`."""
    return 1 << (number - 1).bit_length()
