"""The requests in flight of the policies that share their passes: which get a row, what is sampled, what ends.

A *slot* is one request in flight, a *row* one text in the batch: many slots may stand on one row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np
import torch
from torch import Tensor

from spiral.api.records import Completion, PolicyId, Request
from spiral.engines.torch.kv_cache import PrefixCache
from spiral.engines.torch.passes import Ids, Part, Passes, Steps
from spiral.engines.torch.slots import Slots, draw

Text = tuple[PolicyId, Ids]
_LOW = (1 << 32) - 1


@dataclass(slots=True)
class _Row:
    """One text in the batch."""

    policy: PolicyId
    ids: list[int]
    """Those whose keys and values it holds, and the last one, which it does not hold yet."""


class Lane:
    """All requests of one policy, or of several whose rows are computed together."""

    def __init__(self, passes: Passes, max_rows: int, prefill_tokens: int) -> None:
        """`max_rows`, `prefill_tokens`: see `TorchEngine`."""
        self._passes, self._keys = passes, passes.keys
        self._max_rows, self._prefill_tokens = max_rows, prefill_tokens
        self._versions: dict[PolicyId, int] = {}
        self._prefixes: dict[PolicyId, PrefixCache] = {}
        self._in_flight = Counter[PolicyId]()
        self._pending: dict[Text, list[Request]] = {}
        """Prompt to admit -> the requests that wait for it."""
        self._ousted: dict[Text, list[int]] = {}
        """Unfinished text that lost its row -> the slots that wait for it."""
        self._rows: list[_Row] = []
        self._slots = Slots()
        self.waited = 0
        """Steps of the engine that this lane let pass, since its batch was small."""
        self.computed_tokens = 0

    @property
    def takes_more(self) -> bool:
        """Whether further policies may join."""
        return self._passes.is_shared

    @property
    def cache_bytes(self) -> int:
        return self._keys.num_bytes

    @property
    def num_requests(self) -> int:
        """Those in flight."""
        return self._in_flight.total()

    @property
    def busy(self) -> bool:
        return self.num_requests > 0

    def has_requests_of(self, policy: PolicyId) -> bool:
        return self._in_flight[policy] > 0

    def submit(self, request: Request) -> None:
        self._pending.setdefault((request.policy, request.prompt), []).append(request)
        self._in_flight[request.policy] += 1

    def load(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Texts in flight are computed anew under the new weights: what the old ones left in the cache would mix with
        it."""
        if self.has_requests_of(policy):
            self._oust(policy)
        self._passes.load(policy, weights)
        self._prefixes[policy] = PrefixCache()
        self._versions[policy] = version
        if not self.busy:
            self._keys.trim()

    @torch.inference_mode()
    def _oust(self, policy: PolicyId) -> None:
        """Take the texts of a policy out of the batch, to be admitted again."""
        rows: list[_Row | None] = [*self._rows]
        for number, row in enumerate(self._rows):
            if row.policy == policy:
                slots = self._slots.take_from(number, self._versions[policy])
                self._ousted.setdefault((policy, tuple(row.ids)), []).extend(slots)
                rows[number] = None
        self._compact(rows)

    def drop(self, policy: PolicyId) -> None:
        """Only when no request of the policy is in flight."""
        self._passes.drop(policy)
        del self._prefixes[policy], self._versions[policy], self._in_flight[policy]

    def forget(self) -> None:
        """Keep no prefix."""
        for prefixes in self._prefixes.values():
            prefixes.clear()

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """One token for every text in the batch, and the first for those that fit now."""
        texts = self._admitted()
        parts = list(self._parts(texts))
        steps = Steps(
            [row.policy for row in self._rows],
            [row.ids[-1] for row in self._rows],
            [len(row.ids) - 1 for row in self._rows],
        )
        self.computed_tokens += len(self._rows) + sum(len(part.ids) for part in parts)
        logits = self._passes.logits(steps, parts)
        self._give_rows(texts)
        return self._sample(logits)

    def _admitted(self) -> list[Text]:
        """Texts that fit now, oldest first; at least one when nothing else is in flight."""
        room = self._max_rows * len(self._versions) - len(self._rows)
        chosen: list[Text] = []
        width = 0
        for text in chain(self._ousted, self._pending):
            width = max(width, len(text[1]))  # shorter ones may be padded to the longest
            # Below 0 after a policy was dropped: the limit is a number for each that is there.
            if len(chosen) >= room or (chosen and width * (len(chosen) + 1) > self._prefill_tokens):
                break
            chosen.append(text)
        return chosen

    def _parts(self, texts: list[Text]) -> Iterator[Part]:
        """What of each text is to be computed, after the prefixes that several share."""
        by_policy: dict[PolicyId, list[Ids]] = {}
        for policy, ids in texts:
            by_policy.setdefault(policy, []).append(ids)
        missing = [(policy, ids) for policy in by_policy for ids in self._prefixes[policy].missing(by_policy[policy])]
        # Those of one length at once, the shortest first: they are what longer ones begin with.
        for length, group in groupby(sorted(missing, key=lambda text: len(text[1])), lambda text: len(text[1])):
            alike, num = list(group), max(1, self._prefill_tokens // length)
            for start in range(0, len(alike), num):
                self._compute(alike[start : start + num])
        for text in texts:
            yield self._part(text)

    def _compute(self, prefixes: list[Text]) -> None:
        """Compute prefixes on rows behind the batch, and keep them: each is copied to the texts that start with it."""
        first, parts = len(self._rows), [self._part(prefix) for prefix in prefixes]
        self._passes.compute(first, parts)
        self.computed_tokens += sum(len(part.ids) for part in parts)
        for row, (policy, ids) in enumerate(prefixes, first):
            self._prefixes[policy].keep(ids, self._keys.read(row, len(ids)))

    def _part(self, text: Text) -> Part:
        policy, ids = text
        known = self._prefixes[policy].longest(ids)
        return Part(policy, ids[len(known) :], len(known), self._prefixes[policy][known] if known else None)

    def _give_rows(self, texts: list[Text]) -> None:
        """Put texts behind the batch, and their slots on them."""
        for row, text in enumerate(texts, len(self._rows)):
            policy, ids = text
            self._rows.append(_Row(policy, list(ids)))
            if text in self._ousted:
                self._slots.row[self._ousted.pop(text)] = row
                continue
            requests = self._pending.pop(text)
            self._slots.add(requests, [row] * len(requests))

    def _sample(self, logits: Tensor) -> list[Completion]:
        """Draw an id for every slot on a row, finish the slots that ended, split rows that differ.

        `logits`: (rows, V).
        """
        slots = self._slots
        active = slots.on_rows()
        asked = slots.temperature[active], slots.uniforms(active), slots.top_p[active]
        ids, logprobs = draw(logits, slots.row[active], *asked)
        ended = slots.append(active, ids, logprobs)
        rows = slots.row[active[ended]].tolist()
        policies = [self._rows[row].policy for row in rows]
        self._in_flight.subtract(policies)
        done = slots.complete(active[ended], [self._versions[policy] for policy in policies])
        self._regroup(active[~ended], ids[~ended])
        return done

    def _regroup(self, slots: np.ndarray, ids: np.ndarray) -> None:
        """Give replies that differ rows of their own; drop rows that no slot stands on."""
        on = self._slots.row[slots]
        is_alone = len(on) == len(self._rows) and bool((np.bincount(on) == 1).all())
        if is_alone:  # each slot on its row: none ended, and none splits
            for row, token in zip(on.tolist(), ids.tolist(), strict=True):
                self._rows[row].ids.append(token)
            return
        room = self._max_rows * len(self._versions)
        rows: list[_Row | None] = [None] * len(self._rows)
        copies: list[tuple[int, int]] = []
        # One number for (row, id): sorting pairs would cost more than the model on a small batch.
        groups, group = np.unique((on << 32) | ids, return_inverse=True)
        for index, (row, token) in enumerate(zip((groups >> 32).tolist(), (groups & _LOW).tolist(), strict=True)):
            kept = rows[row]
            if kept is None:  # the first group keeps the row, and its list: a copy a token would cost the whole text
                rows[row] = kept = self._rows[row]
                kept.ids.append(token)
                continue
            split = _Row(kept.policy, [*kept.ids[:-1], token])
            members = slots[group == index]
            if len(rows) < room:
                copies.append((row, len(rows)))
                self._slots.row[members] = len(rows)
                rows.append(split)
            else:  # no row is free: computed again when one is
                self._slots.row[members] = -1
                self._ousted.setdefault((split.policy, tuple(split.ids)), []).extend(members.tolist())
        self._keys.reserve(len(rows), 1)
        self._keys.copy(copies)
        self._compact(rows)

    def _compact(self, rows: list[_Row | None]) -> None:
        """Fill the holes with the last rows, so that the batch stays a prefix of the buffers."""
        num = sum(row is not None for row in rows)
        holes = [place for place in range(num) if rows[place] is None]
        moves = list(zip([place for place in range(num, len(rows)) if rows[place] is not None], holes, strict=True))
        self._keys.copy(moves)
        for source, target in moves:
            rows[target] = rows[source]
            self._slots.move(source, target)
        self._rows = [row for row in rows[:num] if row is not None]
