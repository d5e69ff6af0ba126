"""The requests in flight of one policy, as arrays, so that a token costs Python time per row and not per request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spiral.api.records import Completion, Finish, Request, Sampling
from spiral.engines.torch.transfer import to_device, to_host

_NEVER = -1
"""A stop id that no model samples."""


class Slots:
    """One slot a request, used again when freed; `row` tells where its text stands in the batch, -1 for nowhere."""

    def __init__(self) -> None:
        self._requests: list[Request | None] = []
        self._free: list[int] = []
        self.row = np.empty(0, np.int64)
        self.temperature = np.empty(0)
        self.top_p = np.empty(0)
        self._seed = np.empty(0, np.uint64)
        self._length = np.empty(0, np.int64)
        self._limit = np.empty(0, np.int64)
        self._ids = np.empty((0, 1), np.int64)
        self._logprobs = np.empty((0, 1))
        self._stops = np.empty((0, 1), np.int64)
        self._older: dict[int, list[tuple[int, int]]] = {}
        """Slot -> see `Completion.older`; of those in flight during a load of weights alone."""

    def add(self, requests: Sequence[Request], rows: Sequence[int]) -> None:
        """Give each request a slot on its row."""
        if not requests:
            return
        samplings = [request.sampling for request in requests]
        distinct = list({id(sampling): sampling for sampling in samplings}.values())
        self._make_room(len(requests), distinct)
        slots = np.array([self._free.pop() for _ in requests])
        for slot, request in zip(slots.tolist(), requests, strict=True):
            self._requests[slot] = request
        self.row[slots], self._length[slots] = rows, 0
        self._seed[slots] = [request.seed for request in requests]
        self.temperature[slots] = [sampling.temperature for sampling in samplings]
        self.top_p[slots] = [sampling.top_p for sampling in samplings]
        self._limit[slots] = [sampling.max_new_tokens for sampling in samplings]
        for sampling in distinct:
            alike = slots if len(distinct) == 1 else slots[[s is sampling for s in samplings]]
            self._stops[alike] = _NEVER
            self._stops[alike, : len(sampling.stop_ids)] = sampling.stop_ids

    def on_rows(self) -> np.ndarray:
        """The slots that stand on a row."""
        return np.flatnonzero(self.row >= 0)

    def uniforms(self, slots: np.ndarray) -> np.ndarray:
        """A number in [0, 1) for each slot's next id: a function of its seed and the id's place (SplitMix64)."""
        z = self._seed[slots] + (self._length[slots] + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        uniforms: np.ndarray = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return uniforms

    def append(self, slots: np.ndarray, ids: np.ndarray, logprobs: np.ndarray) -> np.ndarray:
        """Store the next id of each slot; which of them ended, (n,) bool."""
        place = self._length[slots]
        self._ids[slots, place], self._logprobs[slots, place] = ids, logprobs
        self._length[slots] = place + 1
        ended: np.ndarray = (place + 1 >= self._limit[slots]) | (self._stops[slots] == ids[:, None]).any(1)
        return ended

    def complete(self, slots: np.ndarray, versions: Sequence[int]) -> list[Completion]:
        """Free the slots and hand out what they hold, each with the version of its policy's weights."""
        done = []
        numbers = slots.tolist()
        held = zip(
            numbers,
            self._length[slots].tolist(),
            self._ids[slots].tolist(),
            self._logprobs[slots].tolist(),
            versions,
            strict=True,
        )
        for slot, length, ids, logprobs, version in held:
            request = self._requests[slot]
            assert request is not None
            finish: Finish = "stop" if ids[length - 1] in request.sampling.stop_ids else "length"
            older = tuple(self._older.pop(slot, ()))
            done.append(
                Completion(request.id, tuple(ids[:length]), tuple(logprobs[:length]), finish, version, older=older)
            )
            self._requests[slot] = None
        self._free += numbers
        self.row[slots] = -1
        return done

    def take_from(self, row: int, version: int) -> list[int]:
        """The slots of a row, which stand on none any more; what they hold was sampled by `version`."""
        slots = np.flatnonzero(self.row == row)
        self.row[slots] = -1
        for slot in slots.tolist():
            older = self._older.setdefault(slot, [])
            if num := int(self._length[slot]) - sum(n for n, _ in older):
                older.append((num, version))
        return slots.tolist()

    def move(self, source: int, target: int) -> None:
        """All slots of one row now stand on another."""
        self.row[self.row == source] = target

    def _make_room(self, num: int, samplings: Sequence[Sampling]) -> None:
        if len(self._free) < num:
            self._grow(max(64, 2 * len(self._requests), len(self._requests) + num))
        width = max(sampling.max_new_tokens for sampling in samplings)
        self._ids, self._logprobs = _widen(self._ids, width), _widen(self._logprobs, width)
        self._stops = _widen(self._stops, max(len(sampling.stop_ids) for sampling in samplings))

    def _grow(self, num: int) -> None:
        old = len(self._requests)
        self._requests += [None] * (num - old)
        self._free += range(num - 1, old - 1, -1)
        for name in ("row", "temperature", "top_p", "_seed", "_length", "_limit", "_ids", "_logprobs", "_stops"):
            array = getattr(self, name)
            new = np.full((num - old, *array.shape[1:]), -1 if name == "row" else 0, array.dtype)
            setattr(self, name, np.concatenate([array, new]))


def draw(
    logits: Tensor, rows: np.ndarray, temperature: np.ndarray, uniforms: np.ndarray, top_p: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sample by inverse CDF: for each n an id from row `rows[n]` of `logits` (R, V), and its log-probability in nats;
    `top_p` is 1 for all without it. See `Sampling` for temperature 0 and for `top_p`.

    One softmax a row, not a request, where all are sampled alike. The sums are in float64, so that an id's chance is
    what its float32 probability says for any vocabulary.
    """
    top_p = np.ones(len(rows)) if top_p is None else top_p
    greedy = temperature == 0
    tempers = np.where(greedy, 1.0, temperature)
    if mixed := any((values != values[0]).any() for values in (tempers, top_p, greedy)):
        logits, rows = logits[to_device(rows, logits.device)], np.arange(len(rows))
        logits = logits.float() / to_device(tempers.astype(np.float32), logits.device)[:, None]
    elif tempers[0] != 1:
        logits = logits.float() / float(tempers[0])
    row = to_device(rows, logits.device)
    logprobs = torch.log_softmax(logits.float(), -1)
    if greedy.all():
        ids = logprobs.argmax(-1)[row]
        return to_host(ids, logprobs[row, ids])
    if (cut := (top_p < 1) & ~greedy).any():
        marks = np.where(cut, top_p, 2.0) if mixed else np.full(len(logprobs), top_p[0])
        logprobs = _nucleus(logprobs, to_device(marks, logits.device))
    ids = _drawn(logprobs, rows, row, uniforms)
    if greedy.any():
        ids = torch.where(to_device(greedy, logits.device), logprobs.argmax(-1), ids)
    return to_host(ids, logprobs[row, ids])


def _drawn(logprobs: Tensor, rows: np.ndarray, row: Tensor, uniforms: np.ndarray) -> Tensor:
    """(n,) ids drawn from rows of `logprobs` (R, V); `row` is `rows` on the device."""
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    wanted = to_device(uniforms, logprobs.device) * cumulative[row, -1]
    if len(rows) == len(cumulative) and bool((rows == np.arange(len(rows))).all()):  # one request a row
        return _search(cumulative, wanted[:, None])[:, 0]
    # As many columns as requests stand on the fullest row: a copy of its row for each would be a vocabulary each.
    place = _places(rows)
    column = to_device(place, logprobs.device)
    targets = wanted.new_zeros(len(cumulative), int(place.max()) + 1).index_put_((row, column), wanted)
    return _search(cumulative, targets)[row, column]


def _nucleus(logprobs: Tensor, top_p: Tensor) -> Tensor:
    """(R, V): the likeliest ids of each row that together hold `top_p` (R,) of it, as few as do, and no other; 2 keeps
    all."""
    ordered, ids = logprobs.sort(dim=-1, descending=True, stable=True)
    # Without its own part: the id that passes the mark is kept, and so is always the first.
    before = ordered.exp().cumsum(-1, dtype=torch.float64) - ordered.exp()
    left_out = torch.empty_like(ids, dtype=torch.bool).scatter_(-1, ids, before >= top_p[:, None])
    return torch.log_softmax(logprobs.masked_fill(left_out, -torch.inf), -1)


def _search(cumulative: Tensor, targets: Tensor) -> Tensor:
    """(R, n) ids: where each of `targets` (R, n) falls in the sums of its row, (R, V)."""
    return torch.searchsorted(cumulative, targets, right=True).clamp_(max=cumulative.shape[-1] - 1)


def _places(rows: np.ndarray) -> np.ndarray:
    """For each entry how many before it are on the same row."""
    order = np.argsort(rows, kind="stable")
    new = np.flatnonzero(np.diff(rows[order], prepend=-1))
    places = np.empty_like(rows)
    places[order] = np.arange(len(rows)) - np.repeat(new, np.diff(new, append=len(rows)))
    return places


def _widen(array: np.ndarray, width: int) -> np.ndarray:
    """At least `width` columns; new ones are 0, or no stop id."""
    missing = width - array.shape[1]
    if missing <= 0:
        return array
    return np.pad(array, ((0, 0), (0, missing)), constant_values=_NEVER)
