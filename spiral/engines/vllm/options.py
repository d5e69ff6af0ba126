"""Which arguments of vLLM's own engine a config may give, and why it may not give the others.

A config may be somebody else's, so an argument is a number, a truth value, or one of the few names that are listed
here: none names an address, a file or code.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from spiral.api.errors import SpiralError

_ONE_PROCESS = "a run has one vLLM engine a process; start more processes of the run instead"
OWN = {
    "model_weights": "the weights are the learner's",
    "load_format": "the weights are the learner's",
    "skip_tokenizer_init": "ids go in and ids come out",
    "max_model_len": "it is the model's context; set model.args.context",
    "seed": "every request brings its own seed",
    "logprobs_mode": "log-probabilities are those of the distribution that was sampled from",
    "max_logprobs": "log-probabilities of the sampled ids alone are read",
    "weight_transfer_config": "weights come from the learner of this process",
    "generation_config": "sampling is the run's own",
    "override_generation_config": "sampling is the run's own",
    "distributed_executor_backend": "it follows from tensor_parallel_size",
    "worker_extension_cls": "it names code",
    "trust_remote_code": "code beside a model is never run",
    "hf_token": "nothing is downloaded",
    "enable_lora": "it follows from the model",
    "max_loras": "it is engine.args.capacity",
    "max_cpu_loras": "it is engine.args.capacity",
    "max_lora_rank": "it is the adapter's",
    "lora_target_modules": "they are the adapter's",
    "pipeline_parallel_size": "only tensor_parallel_size splits a model here",
    "nnodes": _ONE_PROCESS,
    "node_rank": _ONE_PROCESS,
    "master_port": _ONE_PROCESS,
}
"""Arguments that follow from what the engine is for -> why."""
_OF_OTHERS = {"data_parallel_": _ONE_PROCESS, "spec_": "a draft model would be another model"}

NAMED = (
    "dtype",
    "kv_cache_dtype",
    "quantization",
    "attention_backend",
    "scheduling_policy",
    "prefix_caching_hash_algo",
    "moe_backend",
    "linear_backend",
    "mamba_cache_dtype",
    "mamba_ssm_cache_dtype",
)
"""Arguments whose value is one of the names that vLLM has for it."""


def check_given(options: Mapping[str, Any]) -> None:
    """Raise SpiralError for an argument that is not the config's to give; vLLM is not loaded for it."""
    for name, value in options.items():
        reason = OWN.get(name) or next((why for start, why in _OF_OTHERS.items() if name.startswith(start)), None)
        if reason is not None:
            raise SpiralError(f"engine vllm was given {name}={value}, which is not the config's to say: {reason}")
        if not _is_plain(name, value):
            raise SpiralError(
                f"engine vllm was given {name}={value!r}; an argument of vLLM's is a number or true or false here, and "
                f"a text only for {', '.join(NAMED)}, since others may name an address, a file or code"
            )


def check_names(options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise SpiralError for an argument that vLLM does not have; `known`: those it has."""
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, "capacity", "restart", "deadline_s"], n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see the arguments of its EngineArgs"
            raise SpiralError(f"engine vllm has no argument '{name}', and vLLM's own engine has none either; {hint}")


def _is_plain(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return name in NAMED
    items = value if isinstance(value, list | tuple) else [value]
    return all(item is None or isinstance(item, bool | int | float) for item in items)
