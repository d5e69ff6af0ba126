"""One vLLM engine in this process: how it is made, asked, and given weights."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Completion, Request, Sampling

Named = Iterable[tuple[str, Tensor]]

ON_CPU = {
    # The smallest that its attention takes on a CPU: only full blocks of a prefix are shared, and prompts are short.
    "block_size": 32,
    # Compiling takes minutes at every start and gains little there.
    "enforce_eager": True,
    # The share of memory that is compared with what is free, although the cache's size is VLLM_CPU_KVCACHE_SPACE.
    "gpu_memory_utilization": 0.3,
}
OWN = ("model", "load_format", "skip_tokenizer_init", "max_model_len", "logprobs_mode", "weight_transfer_config")
"""Arguments of vLLM that follow from what the engine is for."""


@dataclass(frozen=True)
class ModelForm:
    """A model as vLLM knows it: a configuration of an architecture that it has, and weights by that one's names."""

    config: Any
    renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    dtype: torch.dtype

    @classmethod
    def of(cls, model: Any) -> ModelForm:
        """`model` itself, or what its optional members `standard_config()` and `standard_weights(weights)` make it."""
        if hasattr(model, "standard_config"):
            return cls(model.standard_config(), model.standard_weights, model.dtype)
        return cls(model.config, lambda weights: weights, model.dtype)


class Instance:
    """A vLLM engine and the version of the weights it serves."""

    def __init__(self, form: ModelForm, context: int, options: Mapping[str, Any]) -> None:
        """Raises SpiralError if vLLM is not installed, or refuses the model or an option."""
        self._engine = _made(form, context, options)
        self._version: int | None = None
        """That of the weights; None before the first load and during one."""
        self._requests: dict[str, Request] = {}

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        return bool(self._requests)

    def submit(self, request: Request) -> None:
        """Queue a request that fits the context."""
        if self._version is None:
            raise RunError(f"vLLM holds no whole weights of '{request.policy}', since their last load failed")
        key = str(request.id)
        # The salt keeps what one version computed from being read by the next, should a reset ever be missed.
        prompt = {"prompt_token_ids": list(request.prompt), "cache_salt": f"{request.policy}@{self._version}"}
        self._engine.add_request(key, prompt, _params(request.sampling, request.seed))
        self._requests[key] = request

    def step(self) -> list[Completion]:
        """One step of vLLM; the replies that it ended."""
        return [self._completion(output) for output in self._engine.step() if output.finished]

    def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Replace the weights, tensor by tensor. Raises RunError if vLLM did not take each of them."""
        engine = self._engine
        self._version = None  # a load that fails half way leaves a model that nothing may ask
        engine.collective_rpc("start_weight_update")
        engine.collective_rpc("update_weights", args=({"tensors": iter(weights.items())},))
        engine.collective_rpc("finish_weight_update")
        # Blocks of the old weights would answer for the new ones.
        if not engine.reset_prefix_cache():
            raise RunError("vLLM did not forget the prefixes that the old weights computed; its own log says why")
        self._version = version

    def _completion(self, output: Any) -> Completion:
        request = self._requests.pop(output.request_id)
        reply = output.outputs[0]
        ids = tuple(reply.token_ids)
        logprobs = tuple(float(step[token].logprob) for step, token in zip(reply.logprobs, ids, strict=True))
        finish = "stop" if reply.finish_reason == "stop" else "length"
        assert self._version is not None
        return Completion(request.id, ids, logprobs, finish, self._version)


@functools.lru_cache(maxsize=64)
def _shared_params(sampling: Sampling) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        max_tokens=sampling.max_new_tokens,
        stop_token_ids=list(sampling.stop_ids),
        ignore_eos=True,  # the stop ids are the request's, whatever the model's configuration says
        logprobs=0,  # those of the sampled ids alone
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _params(sampling: Sampling, seed: int) -> Any:
    params = _shared_params(sampling).clone()
    params.seed = seed & ((1 << 63) - 1)
    return params


def _made(form: ModelForm, context: int, options: Mapping[str, Any]) -> Any:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, where weights cross by reference
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    try:
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine
    except ImportError as error:
        raise SpiralError(
            f"engine vllm was asked for and vLLM cannot be imported ({error}); install spiral-selfplay[vllm] on a "
            "machine with a GPU, or run `make vllm` for the CPU build"
        ) from error
    from spiral.engines.vllm.weight_transfer import config_of_transfer

    taken = {**(ON_CPU if current_platform.is_cpu() else {}), "dtype": str(form.dtype).removeprefix("torch."), **options}
    with _generators_kept(), tempfile.TemporaryDirectory() as folder:
        form.config.save_pretrained(folder)
        args = EngineArgs(
            model=folder,
            load_format="dummy",  # the weights are the learner's, by the first load
            skip_tokenizer_init=True,
            max_model_len=min(context, options.get("max_model_len", context)),
            logprobs_mode="processed_logprobs",  # of the distribution that was sampled from
            weight_transfer_config=config_of_transfer(),
            generation_config="vllm",  # nothing of a model folder's own sampling
            enable_prefix_caching=True,
            disable_log_stats=True,
            **taken,
        )
        engine = LLMEngine.from_engine_args(args)
    return engine


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """vLLM seeds the global generators as it starts; the run's own draws go on as if it had not."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
