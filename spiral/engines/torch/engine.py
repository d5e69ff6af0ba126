"""An engine in plain torch: continuous batching over a static cache of what the model keeps of a text, in this process.

Three savings, all exact: prompts that are equal share one row of the batch until their replies differ; prefixes that
several prompts share are computed once, until nothing is in flight; a finished reply leaves the batch at once. What is
sampled depends on the request's seed and the weights, and on the other requests by rounding only; the same requests
give the same bits on a CPU, whatever an idle engine did before.

On a GPU the keys and values, the logits and the sampling stay on the device, decoding passes are recorded, and a step
of a policy waits for the device once, to learn which ids were sampled. The number that an id is sampled by is still a
function of its request's seed and its place, so a seed gives the same reply but where rounding tips a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import check_request
from spiral.engines.torch.decoding import (
    CudaGraphs,
    Decoder,
    ExactDecoder,
    Record,
    RecordedDecoder,
)
from spiral.engines.torch.grouped_attention import share_keys_of_groups
from spiral.engines.torch.kv_cache import KeyValues, PrefixCache
from spiral.engines.torch.slots import Slots, draw
from spiral.engines.torch.transfer import to_device
from spiral.models.adapted import frozen_copy
from spiral.models.logits import TokenLogits, context_length, load_parameters
from spiral.models.room import room_for
from spiral.models.row_cache import RowCache, own_row_cache

Ids = tuple[int, ...]
_LOW = (1 << 32) - 1
PATIENCE = 4
"""Steps that a policy with few rows waits for more, at most."""


class TorchEngine:
    """See `spiral.api.training.Engine`. Rows of one policy are decoded together, policies one after another."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_rows: int = 256,
        prefill_tokens: int = 16384,
        record: Callable[[], Record] | None = None,
    ) -> None:
        """`max_rows`: texts decoded at once for each policy. `prefill_tokens`: prompt tokens a step admits, at most.
        `record`: makes what records the decoding passes of a policy; CUDA graphs by default for a model on a GPU."""
        if max_rows < 1 or prefill_tokens < 1:
            raise SpiralError(
                f"engine torch was given max_rows={max_rows} and prefill_tokens={prefill_tokens}; both must be above 0"
            )
        self._model = model
        self.context = context_length(model)
        self._limits = (max_rows, prefill_tokens)
        self._record = CudaGraphs if record is None and model.device.type == "cuda" else record
        self._lanes: dict[PolicyId, _Lane] = {}

    def submit(self, request: Request) -> None:
        """Queue one request. Raises SpiralError for a policy without weights, PromptTooLong as `Engine` says."""
        check_request(self, request, self._lanes)
        self._lanes[request.policy].submit(request)

    def step(self) -> list[Completion]:
        """One token for every row in flight, after admitting what fits; policies with few rows gather more at first."""
        done: list[Completion] = []
        busy = [lane for lane in self._lanes.values() if lane.busy]
        most = max((lane.num_requests for lane in busy), default=0)
        for lane in busy:
            # Few large batches are cheaper than many small ones, and a policy that waits is asked for more meanwhile.
            if 2 * lane.num_requests >= most or lane.waited >= PATIENCE:
                lane.waited = 0
                done += lane.step()
            else:
                lane.waited += 1
        if not any(lane.busy for lane in self._lanes.values()):
            # Weights that stay would keep their prefixes from step to step, and what starts with a kept one may differ
            # in the last bit: a resumed run, whose engine is new, would not be the same.
            for lane in self._lanes.values():
                lane.forget()
        # Slots, and so the order in which replies are found, depend on what the engine did before. The order decides
        # which row the next questions get, and rows may differ in the last bit: a resumed run would not be the same.
        return sorted(done, key=lambda completion: completion.request_id)

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Copy `weights` (named as `model.named_parameters()` names them) into the policy's own model. Models of one
        base with adapters share the base."""
        lane = self._lanes.get(policy)
        if lane is None:
            with room_for(self._model) as is_undefined:
                if is_undefined:  # a lane tries the model that it is given
                    load_parameters(self._model, weights)
                model = frozen_copy(self._model)
            lane = self._lanes[policy] = _Lane(model, *self._limits, None if self._record is None else self._record())
        if lane.busy:
            raise SpiralError(f"weights of '{policy}' were loaded while its requests were in flight; finish them first")
        lane.load(weights, version)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy and free its memory."""
        self._lanes.pop(policy, None)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the buffers of all policies: keys and values, or what a model keeps itself."""
        return sum(lane.cache_bytes for lane in self._lanes.values())

    @property
    def computed_tokens(self) -> int:
        """Tokens that went through a model since the engine was made: what the sharing saves is not in it."""
        return sum(lane.computed_tokens for lane in self._lanes.values())


class _Lane:
    """All requests of one policy.

    A *slot* is one request in flight, a *row* one text in the batch: many slots may stand on one row.
    """

    def __init__(self, model: Any, max_rows: int, prefill_tokens: int, record: Record | None) -> None:
        """`record`: what records decoding passes; with it a step waits for the device once."""
        if record is not None:
            share_keys_of_groups(model)
        self._lm = TokenLogits(model.eval())
        self._device = model.device
        own = own_row_cache(model, max_rows)
        self._keys: RowCache = own or KeyValues(model.config, max_rows, self._device, model.dtype)
        self._decoder: Decoder = ExactDecoder(self._lm, self._keys)
        if record is not None and self._keys.does_equal_work:
            self._decoder = RecordedDecoder(self._lm, self._keys, max_rows, record)
        self._waits_once = record is not None
        self._context = context_length(model)
        self._prefixes = PrefixCache()
        self._max_rows, self._prefill_tokens = max_rows, prefill_tokens
        self._version = 0
        self._pending: dict[Ids, list[Request]] = {}
        """Prompt to admit -> the requests that wait for it."""
        self._ousted: dict[Ids, list[int]] = {}
        """Unfinished text that lost its row -> the slots that wait for it."""
        self._texts: list[list[int]] = []
        """One a row: the ids whose keys and values it holds, and the last one, which it does not hold yet."""
        self._slots = Slots()
        self.num_requests = 0
        """Those in flight."""
        self.waited = 0
        """Steps of the engine that this policy let pass, since its batch was small."""
        self.computed_tokens = 0

    @property
    def cache_bytes(self) -> int:
        return self._keys.num_bytes

    @property
    def busy(self) -> bool:
        return self.num_requests > 0

    def submit(self, request: Request) -> None:
        self._pending.setdefault(request.prompt, []).append(request)
        self.num_requests += 1

    def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        load_parameters(self._lm.model, weights)
        self.forget()
        self._keys.trim()
        self._version = version

    def forget(self) -> None:
        """Keep no prefix."""
        self._prefixes.clear()

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        done: list[Completion] = []
        logits = [self._decode()] if self._texts else []
        if logits and not self._waits_once:
            # Rows that ended make room for prompts in this very step; the price is a second wait.
            done += self._sample(logits.pop(), 0)
        first = 0 if logits else len(self._texts)
        admitted = self._admit()
        if admitted:
            logits.append(self._prefill(admitted))
        if logits:
            done += self._sample(logits[0] if len(logits) == 1 else torch.cat(logits), first)
        self.num_requests -= len(done)
        return done

    def _admit(self) -> list[Ids]:
        """Texts that fit now, oldest first; at least one when nothing else is in flight."""
        room = self._max_rows - len(self._texts)
        chosen: list[Ids] = []
        width = 0
        for text in chain(self._ousted, self._pending):
            width = max(width, len(text))  # shorter ones are padded to the longest
            if len(chosen) == room or (chosen and width * (len(chosen) + 1) > self._prefill_tokens):
                break
            chosen.append(text)
        return chosen

    def _prefill(self, texts: list[Ids]) -> Tensor:
        """Give each text a row and compute its keys and values; the logits after each, (n, V)."""
        first = len(self._texts)
        for prefix in self._prefixes.missing(texts):
            # A shared prefix is computed on the row after the last, kept, and copied to each text that starts with it.
            self._extend([prefix], [self._prefixes.longest(prefix)], first)
            self._prefixes.keep(prefix, self._keys.read(first, len(prefix)))
        logits = self._extend(texts, [self._prefixes.longest(t) for t in texts], first)
        for row, text in enumerate(texts, first):
            if text in self._ousted:
                self._slots.row[self._ousted.pop(text)] = row
                self._texts.append(list(text))
                continue
            requests = self._pending.pop(text)
            self._slots.add(requests, [row] * len(requests))
            self._texts.append(list(text))
        return logits

    def _extend(self, texts: list[Ids], known: list[Ids], first: int) -> Tensor:
        """Run each text from where its `known` prefix ends, on rows first, first+1, ...; logits after each, (n, V)."""
        starts = [len(k) for k in known]
        suffixes = [text[start:] for text, start in zip(texts, starts, strict=True)]
        width = max(map(len, suffixes))
        span = max(starts) + width
        self._keys.reserve(first + len(texts), span)
        for row, prefix in enumerate(known, first):
            if prefix:
                self._keys.write(row, self._prefixes[prefix])
        # A shorter suffix is padded on the right; its padding is written behind it, where nothing attends until it is
        # overwritten. Its positions are clamped so that they stay inside the model's context.
        ids = to_device([s + (0,) * (width - len(s)) for s in suffixes], self._device)
        places = to_device(starts, self._device)[:, None] + torch.arange(width, device=self._device)
        positions = places.clamp(max=self._context - 1)
        mask, view = self._keys.mask(places, span), self._keys.window(first, first + len(texts), places, span)
        self.computed_tokens += sum(map(len, suffixes))
        rows = torch.arange(len(texts), device=self._device)
        last = to_device([len(s) - 1 for s in suffixes], self._device)
        logits: Tensor = self._lm(ids, positions, mask, rows, last, view)
        return logits

    def _decode(self) -> Tensor:
        """Feed every row its last id; logits (rows, V)."""
        self.computed_tokens += len(self._texts)
        return self._decoder([text[-1] for text in self._texts], [len(text) - 1 for text in self._texts])

    def _sample(self, logits: Tensor, first: int) -> list[Completion]:
        """Draw an id for every slot on the rows from `first` on, finish the slots that ended, split rows that differ.

        `logits`: (rows from `first`, V).
        """
        slots = self._slots
        active = slots.on_rows_from(first)
        asked = slots.temperature[active], slots.uniforms(active), slots.top_p[active]
        ids, logprobs = draw(logits, slots.row[active] - first, *asked)
        ended = slots.append(active, ids, logprobs)
        done = slots.complete(active[ended], self._version)
        self._regroup(first, active[~ended], ids[~ended])
        return done

    def _regroup(self, first: int, slots: np.ndarray, ids: np.ndarray) -> None:
        """Give replies that differ rows of their own; drop rows (from `first` on) that no slot stands on."""
        texts: list[list[int] | None] = [*self._texts[:first], *[None] * (len(self._texts) - first)]
        copies: list[tuple[int, int]] = []
        # One number for (row, id): sorting pairs would cost more than the model on a small batch.
        groups, group = np.unique((self._slots.row[slots] << 32) | ids, return_inverse=True)
        for index, (row, token) in enumerate(zip((groups >> 32).tolist(), (groups & _LOW).tolist(), strict=True)):
            kept = texts[row]
            if kept is None:  # the first group keeps the row, and its list: a copy a token would cost the whole text
                texts[row] = self._texts[row]
                self._texts[row].append(token)
                continue
            text = [*kept[:-1], token]
            members = slots[group == index]
            if len(texts) < self._max_rows:
                copies.append((row, len(texts)))
                self._slots.row[members] = len(texts)
                texts.append(text)
            else:  # no row is free: computed again when one is
                self._slots.row[members] = -1
                self._ousted.setdefault(tuple(text), []).extend(members.tolist())
        self._keys.reserve(len(texts), 1)
        self._keys.copy(copies)
        self._compact(texts)

    def _compact(self, texts: list[list[int] | None]) -> None:
        """Fill the holes with the last rows, so that the batch stays a prefix of the buffers."""
        num = sum(text is not None for text in texts)
        holes = [row for row in range(num) if texts[row] is None]
        moves = list(zip([row for row in range(num, len(texts)) if texts[row] is not None], holes, strict=True))
        self._keys.copy(moves)
        for source, target in moves:
            texts[target] = texts[source]
            self._slots.move(source, target)
        self._texts = [text for text in texts[:num] if text is not None]
