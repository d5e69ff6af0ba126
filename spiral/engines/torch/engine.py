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
from typing import Any

from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Completion, PolicyId, Request
from spiral.api.training import check_request
from spiral.engines.torch.decoding import CudaGraphs, Record
from spiral.engines.torch.lane import Lane
from spiral.engines.torch.passes import ModelPasses, StackPasses
from spiral.models.adapted import frozen_copy
from spiral.models.logits import context_length, load_parameters
from spiral.models.room import room_for
from spiral.models.stacking import own_stack

PATIENCE = 4
"""Steps that a lane with few requests waits for more, at most."""


class TorchEngine:
    """See `spiral.api.training.Engine`. Policies of a model that brings a `Stack` are computed together, those of any
    other model one after another."""

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
        self._lanes: dict[PolicyId, Lane] = {}
        self._half_loaded: set[PolicyId] = set()
        """Policies whose last load failed, and left some of the new weights among the old ones."""

    loads_in_flight = True
    """See `spiral.api.training.Engine`."""

    def submit(self, request: Request) -> None:
        """Queue one request. Raises SpiralError for a policy without whole weights, PromptTooLong as `Engine` says."""
        self._check_whole(request.policy)
        check_request(self, request, self._lanes)
        self._lanes[request.policy].submit(request)

    def step(self) -> list[Completion]:
        """One token for every row in flight, after admitting what fits; policies with few rows gather more at first."""
        done: list[Completion] = []
        for policy in self._half_loaded:
            if policy in self._lanes and self._lanes[policy].has_requests_of(policy):
                self._check_whole(policy)
        lanes = self._distinct()
        busy = [lane for lane in lanes if lane.busy]
        most = max((lane.num_requests for lane in busy), default=0)
        for lane in busy:
            # Few large batches are cheaper than many small ones, and a lane that waits is asked for more meanwhile.
            if 2 * lane.num_requests >= most or lane.waited >= PATIENCE:
                lane.waited = 0
                done += lane.step()
            else:
                lane.waited += 1
        if not any(lane.busy for lane in lanes):
            # Weights that stay would keep their prefixes from step to step, and what starts with a kept one may differ
            # in the last bit: a resumed run, whose engine is new, would not be the same.
            for lane in lanes:
                lane.forget()
        # Slots, and so the order in which replies are found, depend on what the engine did before. The order decides
        # which row the next questions get, and rows may differ in the last bit: a resumed run would not be the same.
        return sorted(done, key=lambda completion: completion.request_id)

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Copy `weights` (named as `model.named_parameters()` names them) for the policy, whose requests in flight go
        on with them. Models of one base with adapters share the base."""
        lane = self._lanes.get(policy)
        if lane is None:
            lane = next((one for one in self._lanes.values() if one.takes_more), None) or self._new_lane(weights)
        self._half_loaded.add(policy)  # until the last tensor is there, which may have to be fetched
        lane.load(policy, weights, version)
        self._half_loaded.discard(policy)
        self._lanes[policy] = lane

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy and free its memory."""
        self._half_loaded.discard(policy)
        if (lane := self._lanes.pop(policy, None)) is not None:
            lane.drop(policy)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the buffers of all policies: keys and values, or what a model keeps itself."""
        return sum(lane.cache_bytes for lane in self._distinct())

    @property
    def computed_tokens(self) -> int:
        """Tokens that went through a model since the engine was made: what the sharing saves is not in it."""
        return sum(lane.computed_tokens for lane in self._distinct())

    def _check_whole(self, policy: PolicyId) -> None:
        if policy in self._half_loaded:
            raise RunError(f"the engine holds no whole weights of '{policy}', since their last load failed")

    def _distinct(self) -> list[Lane]:
        return list(dict.fromkeys(self._lanes.values()))

    def _new_lane(self, weights: Mapping[str, Tensor]) -> Lane:
        max_rows, prefill_tokens = self._limits
        stack = own_stack(self._model) if self._record is None else None
        if stack is not None:
            return Lane(StackPasses(self._model, stack, max_rows), max_rows, prefill_tokens)
        with room_for(self._model) as is_undefined:
            if is_undefined:  # the passes try the model that they are given
                load_parameters(self._model, weights)
            model = frozen_copy(self._model)
        record = None if self._record is None else self._record()
        return Lane(ModelPasses(model, max_rows, record), max_rows, prefill_tokens)
