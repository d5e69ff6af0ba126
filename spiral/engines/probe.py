"""Checks after a load of weights that an engine answers with them: what it samples has the log-probabilities that the
model itself gives under those weights.

A load can be accepted and change nothing, or only some layers: a packed copy that stays, prefixes computed before,
another precision, a sampling setting of a model's folder, an adapter that requests do not name. All of them give
plausible text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from spiral.api.errors import RunError
from spiral.api.records import Completion, PolicyId, Request, Sampling
from spiral.api.training import Engine
from spiral.engines.waiting import Deadline
from spiral.models.adapted import adapter_of
from spiral.models.logits import TokenLogits, context_length, load_parameters
from spiral.models.room import room_for
from spiral.models.sharded import WholeWeights

BANDS = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}
"""Nats by which two computations of one log-probability may differ, by the engine's precision."""
PROMPT_TOKENS = 40
"""Of the probe: more than a block of vLLM's prefix cache, so that a block kept from other weights is found."""
REPLY_TOKENS = 3
SMALL = 10_000_000
"""Parameters below which not every version is probed: a step of a tiny model is hardly longer than a probe."""
EVERY = 8
"""Versions of a small model between two that are probed."""
DEADLINE_S = 600.0


@dataclass(frozen=True)
class Scored:
    """A reply to the probe, its log-probabilities as the engine gave them, and as the model gives them."""

    version: int
    sampled: tuple[float, ...]
    expected: tuple[float, ...]

    @property
    def gap(self) -> float:
        """The largest difference, in nats."""
        return _distance(self.sampled, self.expected)


class ProbedEngine:
    """An `Engine` around another, whose optional members it has too; see `spiral.api.training.Engine`."""

    def __init__(self, engine: Engine, model: Any) -> None:
        """`model`: scores the probe under the weights that are loaded; its own weights do not matter."""
        self._engine, self._lm = engine, TokenLogits(model)
        self._band = BANDS[getattr(engine, "dtype", model.dtype)]
        self._small = sum(parameter.numel() for parameter in model.parameters()) < SMALL
        self._others: list[Completion] = []
        """Of requests that are not the probe's, finished while it waited."""
        self._last: dict[PolicyId, list[Scored]] = {}
        self._slept = False
        context = min(context_length(model), getattr(engine, "context", PROMPT_TOKENS + REPLY_TOKENS))
        num, generator = min(PROMPT_TOKENS, context - REPLY_TOKENS), torch.Generator().manual_seed(0)
        vocabulary = int(model.config.get_text_config().vocab_size)
        self._prompt = tuple(torch.randint(vocabulary, (max(1, num),), generator=generator).tolist())
        self._num_tokens = min(REPLY_TOKENS, context - len(self._prompt))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        self._engine.submit(request)

    def step(self) -> list[Completion]:
        """See `Engine`."""
        others, self._others = self._others, []
        return others + self._engine.step()

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """See `Engine`. Raises RunError if the engine then answers with other weights, or samples otherwise than it is
        asked to."""
        self._engine.load_weights(policy, weights, version)
        if self._num_tokens > 0 and (policy not in self._last or not self._small or version % EVERY == 0):
            self._check(policy, weights, version)

    def drop(self, policy: PolicyId) -> None:
        """See `Engine`."""
        self._last.pop(policy, None)
        self._engine.drop(policy)

    def sleep(self) -> bool:
        """Give the device's memory to the learner, if the engine can; whether it did."""
        sleep = getattr(self._engine, "sleep", None)
        self._slept = bool(sleep and sleep())
        return self._slept

    def wake(self) -> None:
        """Take it back. Raises RunError if a policy's answers are then not what they were, as with weights that were
        lost."""
        if not self._slept:
            return
        self._slept = False
        self._engine.wake()  # type: ignore[attr-defined]
        for policy, before in self._last.items():
            [reply] = self._replies([self._free_request(policy)])
            if reply.version == before[0].version and _distance(reply.logprobs, before[0].sampled) > self._band:
                raise RunError(
                    f"the engine lost the weights of '{policy}' as it slept: version {reply.version} no longer answers "
                    "a probe as it did when it was loaded; set engine.args.enable_sleep_mode=false"
                )

    def _free_request(self, policy: PolicyId) -> Request:
        return Request(-1, policy, self._prompt, Sampling(self._num_tokens, ()), seed=0)

    def _check(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        free = self._free_request(policy)
        tempered = replace(free, id=-2, sampling=replace(free.sampling, temperature=0.5))
        first = self._replies([free, tempered])
        # The same seed again, with what it sampled first as a stop id, and with the prompt in the engine's cache.
        stopped = replace(free, id=-3, sampling=replace(free.sampling, stop_ids=first[0].ids[:1]))
        replies = first + self._replies([stopped])
        requests = [free, tempered, stopped]
        for request, reply in zip(requests, replies, strict=True):
            _check_end(request, reply)
        scored = self._scored(requests, replies, weights)
        gap = max(probe.gap for probe in scored)
        if not gap <= self._band:
            cause = self._base_answers(requests, replies, weights) or self._cause(policy, scored)
            raise RunError(
                f"the engine does not answer with the weights that it was given: after version {version} of '{policy}' "
                f"was loaded, a sampled token's log-probability is {gap:.3g} nats away from the model's own (at most "
                f"{self._band:g}); {cause}"
            )
        self._last[policy] = scored

    def _base_answers(
        self, requests: Sequence[Request], replies: Sequence[Completion], weights: Mapping[str, Tensor]
    ) -> str | None:
        """What to say where the replies are those of the model without its adapter."""
        if adapter_of(self._lm.model) is None:
            return None
        none = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        if max(probe.gap for probe in self._scored(requests, replies, none)) > self._band:
            return None
        return (
            "it answers as the base model does, so the adapter was not applied; take engine=torch, and report it with "
            "the engine's version"
        )

    def _cause(self, policy: PolicyId, scored: Sequence[Scored]) -> str:
        """What is likely, and what to do."""
        before = self._last.get(policy)
        pairs = zip(before or [], scored, strict=False)
        if before and all(_distance(a.sampled, b.sampled) <= self._band for a, b in pairs):
            return (
                "it answers as it did before, so the load changed nothing; take engine=torch, and report it with the "
                "engine's version"
            )
        tempered = scored[1].gap > self._band >= scored[0].gap
        what = "it does not sample at the temperature asked for" if tempered else "likely a load that reached only "
        what += "" if tempered else "some layers or adapters, a prefix cache that stayed warm, or another precision"
        return f"{what}; leave engine.args to its defaults, or take engine=torch"

    def _replies(self, requests: Sequence[Request]) -> list[Completion]:
        """The replies to the probe's requests, in their order."""
        asked, found = {request.id for request in requests}, dict[int, Completion]()
        deadline = Deadline(DEADLINE_S, "take engine=torch")
        for request in requests:
            self._engine.submit(request)
        while asked - found.keys():
            for completion in self._engine.step():
                if completion.request_id in asked:
                    found[completion.request_id] = completion
                else:
                    self._others.append(completion)
            deadline.check("its answer to a probe")
        return [found[request.id] for request in requests]

    @torch.inference_mode()
    def _scored(
        self, requests: Sequence[Request], replies: Sequence[Completion], weights: Mapping[str, Tensor]
    ) -> list[Scored]:
        """What `weights` give the replies, in one forward pass of the model."""
        device, length = self._lm.model.device, len(self._prompt)
        texts = [[*self._prompt, *reply.ids] for reply in replies]
        width = max(map(len, texts)) - 1  # nothing follows the last id
        ids = torch.tensor([(text + [0] * width)[:width] for text in texts], device=device)
        places = [(row, length - 1 + k) for row, reply in enumerate(replies) for k in range(len(reply.ids))]
        rows, columns = torch.tensor(places, device=device).T
        positions = torch.arange(width, device=device)[None].expand(len(texts), width)
        logits = self._logits(weights, ids, positions, None, rows, columns).float()
        temperatures = torch.tensor([requests[row].sampling.temperature for row, _ in places], device=device)
        sampled = torch.tensor([token for reply in replies for token in reply.ids], device=device)
        logprobs = torch.log_softmax(logits / temperatures[:, None], -1)
        values = iter(logprobs.gather(1, sampled[:, None])[:, 0].tolist())
        return [Scored(reply.version, reply.logprobs, tuple(next(values) for _ in reply.ids)) for reply in replies]

    def _logits(self, weights: Mapping[str, Tensor], *inputs: Tensor | None) -> Tensor:
        logits: Tensor
        if isinstance(weights, WholeWeights):
            # A learner in parts, or in another process, has a model of its own, so this one may take them: one after
            # another, onto its device, where a call under them all would hold every whole tensor at once.
            with room_for(self._lm.model):
                load_parameters(self._lm.model, weights)
                logits = self._lm(*inputs)
        else:
            named = {f"model.{name}": tensor for name, tensor in weights.items()}
            logits = functional_call(self._lm, named, inputs)
        return logits


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference; infinite between replies of different lengths, and where one is no number."""
    if len(one) != len(other):
        return math.inf
    largest = max((abs(a - b) for a, b in zip(one, other, strict=True)), default=0.0)
    return math.inf if math.isnan(largest) or any(map(math.isnan, (*one, *other))) else largest


def _check_end(request: Request, reply: Completion) -> None:
    """Raise RunError for a reply that does not end as it was asked to."""
    stop, ids = request.sampling.stop_ids, reply.ids
    early = any(token in stop for token in ids[:-1])
    ends = "stop" if ids[-1:] and ids[-1] in stop else "length"
    full = ends == "stop" or len(ids) == request.sampling.max_new_tokens
    if early or reply.finish != ends or not full or len(reply.logprobs) != len(ids):
        raise RunError(
            f"the engine does not end replies as it is asked to: a probe with stop ids {list(stop)} and at most "
            f"{request.sampling.max_new_tokens} tokens got {list(ids)} with {len(reply.logprobs)} log-probabilities, "
            f"ended '{reply.finish}'; take another engine, such as engine=torch"
        )
