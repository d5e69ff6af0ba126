"""An engine over vLLM's request-level interface, in this process: ids in, ids out, no tokenizer inside.

Games ask again the moment a reply ends, so requests join and leave vLLM's batch one by one. A policy whose weights are
all its own has a vLLM engine to itself; policies that are adapters over one model share one, and its batches.
`capacity` says how many policies there may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import check_request
from spiral.engines.vllm.backend import VllmBackend
from spiral.engines.vllm.form import ModelForm
from spiral.engines.vllm.instance import Backend, Instance
from spiral.engines.vllm.options import check_given
from spiral.models.logits import check_same_model, context_length, parameters

MakeBackend = Callable[[ModelForm, int, Mapping[str, Any]], Backend]
"""Model, context in tokens, vLLM's own arguments -> an engine of its."""


class VllmEngine:
    """See `spiral.api.training.Engine`."""

    def __init__(
        self,
        model: Any,
        capacity: int | None = None,
        restart: int = 0,
        deadline_s: float = 600.0,
        make: MakeBackend = VllmBackend,
        **options: Any,
    ) -> None:
        """`capacity`: policies with weights of their own at once: the learner, its average for evaluation, and
        snapshots; 2, a vLLM engine each, or 8 for a model with an adapter, all in one. `restart`: how often each engine
        may be made anew after a fault. `deadline_s`: the longest that it may be at one call, its start included.
        `options`: of vLLM's `EngineArgs`, by name."""
        if (capacity is not None and capacity < 1) or restart < 0 or deadline_s <= 0:
            raise SpiralError(
                f"engine vllm was given capacity={capacity}, restart={restart} and deadline_s={deadline_s:g}; capacity "
                "must be 1 or more, restart 0 or more, and deadline_s above 0"
            )
        check_given(options)
        self.context = context_length(model)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._form, self._parameters = ModelForm.of(model, capacity), parameters(model)
        self.dtype: torch.dtype = getattr(torch, str(options.get("dtype", "")), self._form.dtype)
        """In which log-probabilities are computed."""
        self.capacity = self._form.capacity
        self._sleeps = bool(options.get("enable_sleep_mode"))
        self._make = lambda: make(self._form, self.context, options)
        self._restart, self._deadline_s = restart, deadline_s
        self._of: dict[PolicyId, Instance] = {}
        # Made now: what vLLM refuses is then told before a run's first game.
        self._instances = [self._new_instance()]

    @property
    def cached_tokens(self) -> int:
        """Tokens of prompts that were read from the prefix cache, of all replies so far."""
        return sum(instance.cached_tokens for instance in self._instances)

    def submit(self, request: Request) -> None:
        """Queue one request. Raises SpiralError for a policy without weights, PromptTooLong as `Engine` says."""
        check_request(self, request, self._of)
        if max(request.prompt) >= self._vocabulary or min(request.prompt) < 0:
            # Without a tokenizer vLLM does not look, and would read past its embedding.
            raise SpiralError(
                f"a prompt of '{request.policy}' holds the id {max(request.prompt, key=abs)}, and the model's ids are "
                f"0 to {self._vocabulary - 1}; use the model's own tokenizer"
            )
        self._of[request.policy].submit(request)

    def step(self) -> list[Completion]:
        """One step of each vLLM engine that has requests."""
        done = [completion for instance in self._instances if instance.busy for completion in instance.step()]
        return sorted(done, key=lambda completion: completion.request_id)

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Stream `weights` (named as `model.named_parameters()` names them) into the policy's vLLM engine."""
        check_same_model(self._parameters, weights)  # vLLM would pass over names that it does not know
        if policy not in self._of:
            self._of[policy] = self._with_room(policy)
        self._of[policy].load(policy, self._form.renamed(weights), version)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy; what it took of its vLLM engine waits for the next one."""
        if policy in self._of:
            self._of[policy].drop(policy)
            del self._of[policy]

    def sleep(self) -> bool:
        """Give the device's memory to the learner; whether `enable_sleep_mode` was asked for."""
        if self._sleeps:
            for instance in self._instances:
                instance.sleep()
        return self._sleeps

    def wake(self) -> None:
        """Take it back; every policy has the weights that it had."""
        if self._sleeps:
            for instance in self._instances:
                instance.wake()

    def close(self) -> None:
        """Free every vLLM engine; nothing is asked of this one afterwards."""
        for instance in self._instances:
            instance.close()

    def _with_room(self, policy: PolicyId) -> Instance:
        if len(self._of) >= self.capacity:
            raise SpiralError(
                f"engine vllm holds {self.capacity} policies with weights of their own ({', '.join(sorted(self._of))}) "
                f"and was given '{policy}'; set engine.args.capacity={self.capacity + 1} where memory allows one more "
                f"{self._form.what}, or keep fewer snapshots (pool.size)"
            )
        for instance in self._instances:
            if instance.num_policies < self._form.policies:
                return instance
        self._instances.append(self._new_instance())
        return self._instances[-1]

    def _new_instance(self) -> Instance:
        return Instance(self._make, self._restart, self._deadline_s)
