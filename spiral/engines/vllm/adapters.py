"""Adapters in one vLLM engine: what vLLM is told of them at its start, and how one is loaded under a policy's name.

vLLM reads an adapter from a folder, as peft saves it, and knows it by a number. It keeps what it read by that number,
and blocks of its prefix cache by the adapter's name, so every load has a number and a name that no other had.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.api.records import PolicyId
from spiral.models.adapted import adapter_of, wrapped
from spiral.models.adapter_folder import CONFIG_FILE, WEIGHTS_FILE
from spiral.models.logits import parameters
from spiral.runs.files import num_bytes, writing

_INSIDE = "base_model.model."
"""What peft puts before the names of a model's modules."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks for which vLLM reserves room."""
_UNSUPPORTED = {
    "use_dora": "weight-decomposed (DoRA)",
    "lora_bias": "one with biases in its matrices",
    "modules_to_save": "one with whole modules trained beside it (modules_to_save)",
    "trainable_token_indices": "one with trained embeddings of tokens",
    "layer_replication": "one over repeated layers",
    "target_parameters": "one of parameters that are no linear layer's (target_parameters)",
    "alora_invocation_tokens": "one that only some tokens switch on (aLoRA)",
    "use_qalora": "quantisation-aware (QALoRA)",
    "use_bdlora": "block-diagonal (BD-LoRA)",
    "arrow_config": "a mixture of others (Arrow)",
}
"""Fields of peft's configuration that vLLM has nothing for -> what an adapter is that sets them."""


Renamed = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Weights of a model -> the same, by the names of an architecture that vLLM has, which may have a matrix in parts."""


@dataclass(frozen=True)
class Adapter:
    """A model's low-rank adapter, as vLLM is told of it."""

    name: str
    """By which peft's model has it."""
    scales: Mapping[str, float]
    """Module, by peft's name -> what the product of its two matrices is multiplied with."""
    renamed: Renamed
    ranks: tuple[int, ...]
    """Those that layers have."""
    modules: tuple[str, ...]
    """Last names of the modules that it changes in vLLM."""

    @classmethod
    def of(cls, model: Any, renamed: Renamed) -> Adapter | None:
        """That of a model that peft wrapped; None for any other model. Raises SpiralError for one that vLLM cannot
        apply."""
        name = adapter_of(model)
        if name is None:
            return None
        _check(model.peft_config[name].to_dict(), wrapped(model))
        own, end = parameters(model), f".lora_B.{name}.weight"
        scales = {
            n.removesuffix(end): model.get_submodule(n.removesuffix(end)).scaling[name] for n in own if n.endswith(end)
        }
        ranks = {int(weight.shape[1]) for n, weight in own.items() if n.endswith(end)}
        if max(ranks) > RANKS[-1]:
            raise SpiralError(
                f"engine vllm was given an adapter of rank {max(ranks)}, and vLLM's highest is {RANKS[-1]}; lower the "
                "rank, or take engine=torch"
            )
        adapter = cls(name, scales, renamed, tuple(sorted(ranks)), ())
        modules = {n.split(".")[-3] for n in adapter.as_vllm_reads(own)}
        return replace(adapter, modules=tuple(sorted(modules)))

    def arguments(self, policies: int) -> dict[str, Any]:
        """Those of vLLM's for an engine that holds as many policies, all in one batch."""
        return {
            "enable_lora": True,
            "max_loras": policies,
            "max_lora_rank": next(rank for rank in RANKS if rank >= self.ranks[-1]),
            "lora_target_modules": list(self.modules),  # each further module would cost time at every token
        }

    def as_vllm_reads(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the names that peft saves, of vLLM's modules, in main memory. What is joined in the model and not
        in vLLM has the first matrix in common; scales are within the second one, since vLLM knows one for all."""
        found = {}
        for module, scale in self.scales.items():
            first, second = (weights[f"{module}.lora_{letter}.{self.name}.weight"].detach() for letter in "AB")
            for name, rows in self.renamed({f"{module.removeprefix(_INSIDE)}.weight": second * scale}).items():
                place = _INSIDE + name.removesuffix(".weight")
                # Copies: a file holds no two tensors of one memory.
                found[f"{place}.lora_A.weight"] = first.to("cpu", copy=True).contiguous()
                found[f"{place}.lora_B.weight"] = rows.to("cpu", copy=True).contiguous()
        return found

    def write(self, folder: str, weights: Iterable[tuple[str, Tensor]]) -> None:
        """An adapter as peft saves it. Raises WriteError where there is no room for it."""
        named, rank = self.as_vllm_reads(dict(weights)), self.ranks[-1]
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": self.modules, "bias": "none"}
        path = Path(folder, WEIGHTS_FILE)
        with writing(path, num_bytes(named)):
            path.with_name(CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
            save_file(named, path)


def base_weights(model: Any) -> dict[str, Tensor]:
    """Those of the model inside of peft's wrapper, without its adapters, by its own names; a tied one once."""
    found = {}
    for name, parameter in wrapped(model).named_parameters():
        if not _is_adapters(name):
            found[name.replace(".base_layer.", ".")] = parameter.detach()
    return found


class Adapters:
    """The adapters of a vLLM engine by policy; see `spiral.engines.vllm.backend.Loader`."""

    def __init__(self, engine: Any, adapter: Adapter) -> None:
        self._engine, self._adapter = engine, adapter
        self._requests: dict[PolicyId, Any] = {}
        """What a request of a policy names its adapter by."""
        self._numbers: Iterator[int] = itertools.count(1)

    def load(self, policy: PolicyId, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Give a policy its adapter, in place of what it had. Raises if vLLM did not take it."""
        from vllm.lora.request import LoRARequest

        # First, since vLLM would make room for one more by taking another policy's.
        self.drop(policy)
        number = next(self._numbers)
        with tempfile.TemporaryDirectory(prefix="spiral-adapter-") as folder:
            self._adapter.write(folder, weights)
            request = LoRARequest(f"{policy}#{number}", number, folder)
            if not self._engine.add_lora(request):
                raise SpiralError(f"vLLM did not take the adapter of '{policy}'; its own log says why")
        self._requests[policy] = request

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy's adapter, if it has one."""
        request = self._requests.pop(policy, None)
        if request is not None:
            self._engine.remove_lora(request.lora_int_id)

    def request(self, policy: PolicyId) -> Any:
        """What vLLM is asked with; without it the base would answer. Raises KeyError for a policy without adapter."""
        return self._requests[policy]


def _check(config: Mapping[str, Any], base: Any) -> None:
    kind = getattr(config["peft_type"], "value", config["peft_type"])
    wrong = f"of peft's kind {kind}" if kind != "LORA" else None
    wrong = wrong or next((what for field, what in _UNSUPPORTED.items() if config.get(field)), None)
    if config.get("bias", "none") != "none":
        wrong = wrong or f"one with trained biases (bias={config['bias']})"
    if wrong is not None:
        raise SpiralError(
            f"engine vllm was given an adapter, {wrong}, and vLLM applies plain low-rank ones to linear layers; leave "
            "that out of its configuration, or take engine=torch"
        )
    for what, module in (("embedding", base.get_input_embeddings()), ("head", base.get_output_embeddings())):
        if module is not None and any(_is_adapters(name) for name, _ in module.named_parameters()):
            raise SpiralError(
                f"engine vllm was given an adapter of the {what}, and vLLM applies them to the linear layers of the "
                "decoder alone; leave it out of target_modules, or take engine=torch"
            )


def _is_adapters(name: str) -> bool:
    return any(part.startswith("lora_") for part in name.split("."))
