"""Forward passes over the rows of a batch: of one policy with its own model, or of several that are stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from spiral.api.records import PolicyId
from spiral.engines.torch.decoding import Decoder, ExactDecoder, Record, RecordedDecoder
from spiral.engines.torch.grouped_attention import share_keys_of_groups
from spiral.engines.torch.kv_cache import KeyValues
from spiral.engines.torch.transfer import to_device
from spiral.models.logits import TokenLogits, check_same_model, context_length, load_parameters, parameters
from spiral.models.row_cache import RowCache, own_row_cache
from spiral.models.stacking import Stack

Ids = tuple[int, ...]


class Steps(NamedTuple):
    """The rows that are in the batch already, from the first on: of each its last id."""

    policies: Sequence[PolicyId]
    ids: Sequence[int]
    places: Sequence[int]
    """Of the ids in their texts."""


class Part(NamedTuple):
    """The new ids of a text that gets a row."""

    policy: PolicyId
    ids: Ids
    start: int
    """The place of the first."""
    kept: Any = None
    """What the cache read of the ids before them, if there are any."""


class Passes(Protocol):
    """Computes rows of a cache. Writes of what is kept, and of padding, come where no row needs what they overwrite."""

    is_shared: bool
    """Whether there may be several policies."""

    @property
    def keys(self) -> RowCache:
        """Where the rows are."""

    def load(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of a policy, which may be new. Raises RunError for those of another model."""

    def drop(self, policy: PolicyId) -> None:
        """Forget the weights of a policy."""

    def logits(self, steps: Steps, parts: Sequence[Part]) -> Tensor:
        """(rows, V) after the last id of each row in the batch, and of each part, which get the rows behind."""

    def compute(self, first: int, parts: Sequence[Part]) -> None:
        """Keys and values alone, on rows first, first+1, ..."""


class ModelPasses:
    """Passes of one policy by any model: over all rows in the batch, and then over new texts, padded to the longest."""

    is_shared = False

    def __init__(self, model: Any, max_rows: int, record: Record | None) -> None:
        """`record`: what records the passes over rows in the batch."""
        if record is not None:
            share_keys_of_groups(model)
        self._lm = TokenLogits(model.eval())
        self._device = model.device
        own = own_row_cache(model, max_rows)
        self.keys: RowCache = own or KeyValues(model.config, max_rows, self._device, model.dtype)
        self._decoder: Decoder = ExactDecoder(self._lm, self.keys)
        if record is not None and self.keys.does_equal_work:
            self._decoder = RecordedDecoder(self._lm, self.keys, max_rows, record)
        self._context = context_length(model)

    def load(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> None:
        load_parameters(self._lm.model, weights)

    def drop(self, policy: PolicyId) -> None:
        """Nothing: who drops the policy drops these passes."""

    def logits(self, steps: Steps, parts: Sequence[Part]) -> Tensor:
        # A recorded pass writes padding on the rows behind its own, so what is kept comes onto them afterwards.
        found = [self._decoder(steps.ids, steps.places)] if steps.ids else []
        if parts:
            found.append(self._extend(len(steps.ids), parts))
        return found[0] if len(found) == 1 else torch.cat(found)

    def compute(self, first: int, parts: Sequence[Part]) -> None:
        self._extend(first, parts)

    def _extend(self, first: int, parts: Sequence[Part]) -> Tensor:
        """Logits (n, V) after each part, on rows first, first+1, ..."""
        width = max(len(part.ids) for part in parts)
        span = max(part.start for part in parts) + width
        self.keys.reserve(first + len(parts), span)
        write_kept(self.keys, first, parts)
        # A shorter part is padded on the right; its padding is written behind it, where nothing attends until it is
        # overwritten. Its positions are clamped so that they stay inside the model's context.
        ids = to_device([part.ids + (0,) * (width - len(part.ids)) for part in parts], self._device)
        starts = to_device([part.start for part in parts], self._device)
        places = starts[:, None] + torch.arange(width, device=self._device)
        positions = places.clamp(max=self._context - 1)
        mask, view = self.keys.mask(places, span), self.keys.window(first, first + len(parts), places, span)
        rows = torch.arange(len(parts), device=self._device)
        last = to_device([len(part.ids) - 1 for part in parts], self._device)
        logits: Tensor = self._lm(ids, positions, mask, rows, last, view)
        return logits


class StackPasses:
    """Passes of policies of one shape, all their rows and new texts at once; on a CPU."""

    is_shared = True

    def __init__(self, model: Any, stack: Stack, max_rows: int) -> None:
        """`model`: whose stack it is, for names and shapes."""
        self._model, self._stack = model, stack
        self.keys = KeyValues(model.config, max_rows, model.device, model.dtype)
        self._places: dict[PolicyId, int] = {}

    def load(self, policy: PolicyId, weights: Mapping[str, Tensor]) -> None:
        check_same_model(parameters(self._model), weights)
        if policy not in self._places:
            self._arrange([*self._places, policy])
        self._stack.load(self._places[policy], weights)

    def drop(self, policy: PolicyId) -> None:
        self._arrange([known for known in self._places if known != policy])

    def logits(self, steps: Steps, parts: Sequence[Part]) -> Tensor:
        spans = [place + 1 for place in steps.places] + [part.start + len(part.ids) for part in parts]
        self.keys.reserve(len(spans), max(spans))
        write_kept(self.keys, len(steps.ids), parts)
        ids = [*((token,) for token in steps.ids), *(part.ids for part in parts)]
        starts = [*steps.places, *(part.start for part in parts)]
        return self._stack(self.keys.data, 0, ids, starts, self._policies([*steps.policies, *_policies(parts)]))

    def compute(self, first: int, parts: Sequence[Part]) -> None:
        self.keys.reserve(first + len(parts), max(part.start + len(part.ids) for part in parts))
        write_kept(self.keys, first, parts)
        ids, starts = [part.ids for part in parts], [part.start for part in parts]
        self._stack(self.keys.data, first, ids, starts, self._policies(_policies(parts)), wants_logits=False)

    def _policies(self, names: Sequence[PolicyId]) -> list[int]:
        return [self._places[name] for name in names]

    def _arrange(self, policies: Sequence[PolicyId]) -> None:
        """In the order of their names: where a policy stands tips rounding, and a resumed run loads in another order
        than one in which snapshots came and went."""
        order = sorted(policies)
        self._stack.arrange([self._places.get(policy) for policy in order])
        self._places = {policy: place for place, policy in enumerate(order)}


def write_kept(keys: RowCache, first: int, parts: Sequence[Part]) -> None:
    """Put what is kept of each part's text on its row."""
    for row, part in enumerate(parts, first):
        if part.start:
            keys.write(row, part.kept)


def _policies(parts: Sequence[Part]) -> list[PolicyId]:
    return [part.policy for part in parts]
