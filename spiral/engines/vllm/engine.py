"""An engine over vLLM's request-level interface, in this process: ids in, ids out, no tokenizer inside.

Games ask again the moment a reply ends, so requests join and leave vLLM's batch one by one. Every policy with weights of
its own has a vLLM engine; `capacity` says how many there may be.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import check_room
from spiral.engines.vllm.instance import Instance, ModelForm
from spiral.models.logits import context_length


class VllmEngine:
    """See `spiral.api.training.Engine`."""

    def __init__(self, model: Any, capacity: int = 2, **options: Any) -> None:
        """`capacity`: policies with weights of their own at once, a vLLM engine each: the learner, its average for
        evaluation, and snapshots. `options`: of vLLM's `EngineArgs`, by name."""
        if capacity < 1:
            raise SpiralError(f"engine vllm was given capacity={capacity}; it needs 1 or more")
        self.context = context_length(model)
        self._form, self._capacity, self._options = ModelForm.of(model), capacity, options
        self._instances: dict[PolicyId, Instance] = {}
        self._free: list[Instance] = []
        # Made now: what vLLM refuses is then told before a run's first game.
        self._free.append(Instance(self._form, self.context, options))

    def submit(self, request: Request) -> None:
        """Queue one request. Raises SpiralError for a policy without weights, PromptTooLong as `Engine` says."""
        instance = self._instances.get(request.policy)
        if instance is None:
            known = ", ".join(sorted(self._instances)) or "none"
            raise SpiralError(f"the engine has no weights for '{request.policy}' (it has: {known}); load_weights first")
        if not request.prompt:
            raise PromptTooLong("a prompt of 0 tokens has nothing that a reply could follow; encode at least one")
        check_room(self, len(request.prompt), request.sampling.max_new_tokens)
        instance.submit(request)

    def step(self) -> list[Completion]:
        """One step of each vLLM engine that has requests."""
        done = [completion for instance in self._instances.values() if instance.busy for completion in instance.step()]
        return sorted(done, key=lambda completion: completion.request_id)

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Stream `weights` (named as `model.named_parameters()` names them) into the policy's vLLM engine."""
        instance = self._instances.get(policy)
        if instance is None:
            instance = self._instances[policy] = self._new(policy)
        if instance.busy:
            raise SpiralError(f"weights of '{policy}' were loaded while its requests were in flight; finish them first")
        instance.load(self._form.renamed(weights), version)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy; its vLLM engine waits for the next one."""
        instance = self._instances.pop(policy, None)
        if instance is not None:
            self._free.append(instance)

    def _new(self, policy: PolicyId) -> Instance:
        if self._free:
            return self._free.pop()
        if len(self._instances) >= self._capacity:
            raise SpiralError(
                f"engine vllm holds {self._capacity} policies with weights of their own "
                f"({', '.join(sorted(self._instances))}) and was given '{policy}'; set engine.args.capacity="
                f"{self._capacity + 1} where memory allows one more model, or keep fewer snapshots (pool.size)"
            )
        gc.collect()
        return Instance(self._form, self.context, self._options)
