"""The sizes of a causal language model that its memory follows from, read from a model without weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from spiral.models.adapted import adapter_of
from spiral.models.logits import context_length


@dataclass(frozen=True)
class Linear:
    """The linear layers of one name and shape, such as every `q_proj`."""

    name: str
    """The last part of its name."""
    inputs: int
    outputs: int
    num: int
    """How many the model has, its head not counted."""


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes of linear layers, which are trained in place of the model's own weights (Hu et al. 2021)."""

    rank: int
    targets: tuple[str, ...]
    """The last parts of the names of the layers that it changes; empty for all but the head."""

    @classmethod
    def of(cls, model: Any) -> Adapter | None:
        """That of a model which peft wrapped, None for any other model. The largest rank, where there are several."""
        name = adapter_of(model)
        if name is None:
            return None
        first = {layer: weight for layer, weight in model.named_parameters() if f".lora_A.{name}" in layer}
        targets = {layer.partition(".lora_A.")[0].rpartition(".")[2] for layer in first}
        return cls(max((weight.shape[0] for weight in first.values()), default=0), tuple(sorted(targets)))


@dataclass(frozen=True)
class Architecture:
    """A decoder of the kind that transformers calls Llama, Qwen or Mistral."""

    name: str
    """Of its class."""
    num_parameters: int
    """A tied one once."""
    layer_parameters: int
    """Of the largest layer."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    """Width of the MLP."""
    vocabulary: int
    context: int
    """Tokens of a prompt and its reply together, at most."""
    tied: bool
    """Whether the head is the embedding."""
    normed_heads: bool
    """Whether queries and keys are normed, as Qwen3 does."""
    linears: tuple[Linear, ...]

    @classmethod
    def of(cls, model: Any) -> Architecture:
        """Of a Hugging Face causal model, whose weights may be on the meta device."""
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        names = [name.rpartition(".")[2] for name, _ in model.named_modules()]
        return cls(
            name=type(model).__name__,
            num_parameters=_count(model),
            layer_parameters=max(map(_count, _layers(model)), default=0),
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            # As the caches of the engine read them: not every architecture names these.
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            vocabulary=config.vocab_size,
            context=context_length(model),
            tied=bool(config.tie_word_embeddings),
            normed_heads="q_norm" in names,
            linears=_linears(model),
        )

    @property
    def kv_elements(self) -> int:
        """Numbers that a token leaves in the caches of keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def adapted(self, adapter: Adapter) -> list[Linear]:
        """The linear layers that an adapter changes."""
        return [linear for linear in self.linears if not adapter.targets or linear.name in adapter.targets]

    def adapter_parameters(self, adapter: Adapter) -> int:
        """Of an adapter: its rank for each input and each output of the layers that it changes."""
        return sum(one.num * adapter.rank * (one.inputs + one.outputs) for one in self.adapted(adapter))


def _layers(model: nn.Module) -> list[nn.Module]:
    """The decoder's layers: the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def _linears(model: Any) -> tuple[Linear, ...]:
    head = model.get_output_embeddings()
    shapes = Counter(
        (name.rpartition(".")[2], module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    return tuple(Linear(name, inputs, outputs, num) for (name, inputs, outputs), num in shapes.items())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
