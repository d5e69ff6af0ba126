"""An engine over vLLM's request-level interface, in this process: ids in, ids out, no tokenizer inside.

Games ask again the moment a reply ends, so requests join and leave vLLM's batch one by one. Every policy with weights
of its own has a vLLM engine; `capacity` says how many there may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import check_request
from spiral.engines.vllm.backend import ModelForm, VllmBackend
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
        capacity: int = 2,
        restart: int = 0,
        deadline_s: float = 600.0,
        make: MakeBackend = VllmBackend,
        **options: Any,
    ) -> None:
        """`capacity`: policies with weights of their own at once, a vLLM engine each: the learner, its average for
        evaluation, and snapshots. `restart`: how often each may be made anew after a fault. `deadline_s`: the longest
        that it may be at one call, its start included. `options`: of vLLM's `EngineArgs`, by name."""
        if capacity < 1 or restart < 0 or deadline_s <= 0:
            raise SpiralError(
                f"engine vllm was given capacity={capacity}, restart={restart} and deadline_s={deadline_s:g}; capacity "
                "must be 1 or more, restart 0 or more, and deadline_s above 0"
            )
        check_given(options)
        self.context = context_length(model)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        form, self._parameters = ModelForm.of(model), parameters(model)
        self.dtype: torch.dtype = getattr(torch, str(options.get("dtype", "")), form.dtype)
        """In which log-probabilities are computed."""
        self._renamed, self.capacity = form.renamed, capacity
        self._sleeps = bool(options.get("enable_sleep_mode"))
        self._make = lambda: make(form, self.context, options)
        self._restart, self._deadline_s = restart, deadline_s
        self._instances: dict[PolicyId, Instance] = {}
        # Made now: what vLLM refuses is then told before a run's first game.
        self._free = [self._new_instance()]

    @property
    def cached_tokens(self) -> int:
        """Tokens of prompts that were read from the prefix cache, of all replies so far."""
        return sum(instance.cached_tokens for instance in (*self._instances.values(), *self._free))

    def submit(self, request: Request) -> None:
        """Queue one request. Raises SpiralError for a policy without weights, PromptTooLong as `Engine` says."""
        check_request(self, request, self._instances)
        if max(request.prompt) >= self._vocabulary or min(request.prompt) < 0:
            # Without a tokenizer vLLM does not look, and would read past its embedding.
            raise SpiralError(
                f"a prompt of '{request.policy}' holds the id {max(request.prompt, key=abs)}, and the model's ids are "
                f"0 to {self._vocabulary - 1}; use the model's own tokenizer"
            )
        self._instances[request.policy].submit(request)

    def step(self) -> list[Completion]:
        """One step of each vLLM engine that has requests."""
        done = [completion for instance in self._instances.values() if instance.busy for completion in instance.step()]
        return sorted(done, key=lambda completion: completion.request_id)

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Stream `weights` (named as `model.named_parameters()` names them) into the policy's vLLM engine."""
        check_same_model(self._parameters, weights)  # vLLM would pass over names that it does not know
        instance = self._instances.get(policy)
        if instance is None:
            instance = self._instances[policy] = self._unused(policy)
        if instance.busy:
            raise SpiralError(f"weights of '{policy}' were loaded while its requests were in flight; finish them first")
        instance.load(self._renamed(weights), version)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy; its vLLM engine waits for the next one."""
        instance = self._instances.pop(policy, None)
        if instance is not None:
            self._free.append(instance)

    def sleep(self) -> bool:
        """Give the device's memory to the learner; whether `enable_sleep_mode` was asked for."""
        if self._sleeps:
            for instance in (*self._instances.values(), *self._free):
                instance.sleep()
        return self._sleeps

    def wake(self) -> None:
        """Take it back; every policy has the weights that it had."""
        if self._sleeps:
            for instance in (*self._instances.values(), *self._free):
                instance.wake()

    def _unused(self, policy: PolicyId) -> Instance:
        if self._free:
            return self._free.pop()
        if len(self._instances) >= self.capacity:
            raise SpiralError(
                f"engine vllm holds {self.capacity} policies with weights of their own "
                f"({', '.join(sorted(self._instances))}) and was given '{policy}'; set engine.args.capacity="
                f"{self.capacity + 1} where memory allows one more model, or keep fewer snapshots (pool.size)"
            )
        return self._new_instance()

    def _new_instance(self) -> Instance:
        return Instance(self._make, self._restart, self._deadline_s)
