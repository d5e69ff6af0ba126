"""vLLM itself: how its engine is made for a run, asked for replies, and given weights. Nothing else imports vLLM."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import random
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import PolicyId, Sampling
from spiral.engines.vllm.adapters import Adapters
from spiral.engines.vllm.form import ModelForm
from spiral.engines.vllm.instance import Finished, told
from spiral.engines.vllm.options import check_names

ON_CPU = {
    # The smallest that its attention takes on a CPU: only full blocks of a prefix are shared, and prompts are short.
    "block_size": 32,
    # Compiling takes minutes at every start and gains little there.
    "enforce_eager": True,
    # A prompt that is computed in parts sets its request's generator back after each, and one of a CPU cannot be.
    "enable_chunked_prefill": False,
    # The share of memory that is compared with what is free, although the cache's size is VLLM_CPU_KVCACHE_SPACE.
    "gpu_memory_utilization": 0.3,
}


PART_BYTES = 1 << 28
"""Of weights that are sent to vLLM's worker processes in one message."""
IN_WORKERS = {
    "distributed_executor_backend": "mp",
    "worker_extension_cls": "spiral.engines.vllm.weight_transfer.WorkerExtension",
}
"""Arguments of an engine whose model is split over worker processes."""


class Loader(Protocol):
    """How policies get their weights in a vLLM engine; any exception is a fault of its."""

    def load(self, policy: PolicyId, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Give a policy weights; nothing that others computed answers for them."""

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy."""

    def request(self, policy: PolicyId) -> Any:
        """The adapter that a request of a policy is answered with, as vLLM is told of it; None for the model itself."""


class VllmBackend:
    """See `spiral.engines.vllm.instance.Backend`."""

    def __init__(self, form: ModelForm, context: int, options: Mapping[str, Any]) -> None:
        """Raises SpiralError if vLLM is not installed, or refuses the model or an option."""
        self._engine = _made(form, context, options)
        self._loader: Loader = (
            WholeModel(self._engine, _num_workers(options) > 1)
            if form.adapter is None
            else Adapters(self._engine, form.adapter)
        )

    def add(self, key: str, policy: PolicyId, prompt: Sequence[int], salt: str, sampling: Sampling, seed: int) -> None:
        """Queue a request."""
        params = _shared_params(sampling).clone()
        params.seed = seed & ((1 << 63) - 1)
        text = {"prompt_token_ids": list(prompt), "cache_salt": salt}
        self._engine.add_request(key, text, params, lora_request=self._loader.request(policy))

    def step(self) -> list[Finished]:
        """One step; the requests that it ended."""
        return [_finished(output) for output in self._engine.step() if output.finished]

    def load(self, policy: PolicyId, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Give a policy weights."""
        self._loader.load(policy, weights)

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy."""
        self._loader.drop(policy)

    def sleep(self) -> None:
        """Weights go to main memory, and the cache is dropped."""
        self._engine.sleep(level=1)  # 2 would drop the weights of policies that nothing loads again

    def wake(self) -> None:
        """Weights come back, and the cache is empty."""
        self._engine.wake_up()

    def close(self) -> None:
        """Free everything."""
        self._engine.engine_core.shutdown()
        del self._engine, self._loader
        gc.collect()


class WholeModel:
    """All weights of the one policy that a vLLM engine holds; see `Loader`."""

    def __init__(self, engine: Any, in_workers: bool) -> None:
        """`in_workers`: whether the model is split over worker processes."""
        self._engine, self._in_workers = engine, in_workers

    def load(self, policy: PolicyId, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights, and forget what the old ones computed."""
        engine = self._engine
        engine.collective_rpc("start_weight_update")
        for part in _parts(weights) if self._in_workers else [iter(weights)]:
            engine.collective_rpc("update_weights", args=({"tensors": part},))
        engine.collective_rpc("finish_weight_update")
        # Blocks of the old weights would answer for the new ones.
        if not engine.reset_prefix_cache():
            raise RunError("vLLM did not forget the prefixes that the old weights computed; its own log says why")

    def drop(self, policy: PolicyId) -> None:
        """The weights stay until the next policy's come."""

    def request(self, policy: PolicyId) -> None:
        """None: the model itself answers."""


def _freed() -> None:
    """What an engine that ended held is free again."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def _num_workers(options: Mapping[str, Any]) -> int:
    return int(options.get("tensor_parallel_size", 1))


def _parts(weights: Iterable[tuple[str, Tensor]]) -> Iterator[list[tuple[str, Tensor]]]:
    """Lists of tensors in main memory, of about PART_BYTES each: what crosses to vLLM's worker processes at once."""
    part: list[tuple[str, Tensor]] = []
    size = 0
    for name, tensor in weights:
        part.append((name, tensor.detach().to("cpu").contiguous().clone()))  # a view would take all that it is of
        size += tensor.numel() * tensor.element_size()
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


@functools.lru_cache(maxsize=64)
def _shared_params(sampling: Sampling) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,  # 0 is greedy there too, and its log-probability that at temperature 1
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        stop_token_ids=list(sampling.stop_ids),
        ignore_eos=True,  # the stop ids are the request's, whatever the model's configuration says
        logprobs=0,  # those of the sampled ids alone
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _finished(output: Any) -> Finished:
    reply = output.outputs[0]
    ids = tuple(reply.token_ids)
    logprobs = tuple(float(place[token].logprob) for place, token in zip(reply.logprobs or (), ids, strict=False))
    return Finished(output.request_id, ids, logprobs, str(reply.finish_reason), output.num_cached_tokens or 0)


def _made(form: ModelForm, context: int, options: Mapping[str, Any]) -> Any:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, where weights cross by reference
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ["VLLM_NO_USAGE_STATS"] = "1"  # what is trained here is told to nobody
    # Every load of weights warns of layers that need none and of a tied head, which is seen to here.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")  # of its own calls to torch
    try:
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine import core
        from vllm.v1.engine.llm_engine import LLMEngine
    except ImportError as error:
        raise SpiralError(
            f"engine vllm was asked for and vLLM cannot be imported ({error}); install spiral-selfplay[vllm] on a "
            "machine with a GPU, or run `make vllm` for the CPU build"
        ) from error
    from spiral.engines.vllm.weight_transfer import config_of_transfer

    # One engine's end would take the process groups from the others, and from a run of several processes its own.
    core.cleanup_dist_env_and_memory = _freed
    check_names(options, {field.name for field in dataclasses.fields(EngineArgs)})
    defaults = {**(ON_CPU if current_platform.is_cpu() else {}), **(IN_WORKERS if _num_workers(options) > 1 else {})}
    defaults |= {"dtype": str(form.dtype).removeprefix("torch.")}
    with _generators_kept(), tempfile.TemporaryDirectory() as folder:
        form.write(folder)
        try:
            args = EngineArgs(
                model=folder,
                skip_tokenizer_init=True,
                max_model_len=context,
                logprobs_mode="processed_logprobs",  # of the distribution that was sampled from
                weight_transfer_config=config_of_transfer(),
                generation_config="vllm",  # nothing of a model folder's own sampling
                **form.arguments,
                **{"enable_prefix_caching": True, "disable_log_stats": True, **defaults, **options},
            )
            return LLMEngine.from_engine_args(args)
        except Exception as error:
            given = ", ".join(f"{name}={value}" for name, value in options.items()) or "no further arguments"
            raise SpiralError(
                f"vLLM refused to start for a context of {context} tokens with {given}: {told(error)}; change "
                "engine.args or model.args.context"
            ) from error


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
