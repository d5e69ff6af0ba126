"""The sizes of a causal language model that its memory follows from, read from a model without weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


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
            context=getattr(model, "context", None) or getattr(config, "max_position_embeddings", 1 << 30),
            tied=bool(config.tie_word_embeddings),
            normed_heads="q_norm" in names,
            linears=_linears(model),
        )

    @property
    def kv_elements(self) -> int:
        """Numbers that a token leaves in the caches of keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def adapted(self, targets: str | Sequence[str]) -> list[Linear]:
        """The linear layers that an adapter with these targets changes; `all-linear` for all but the head, another text
        is a regular expression for whole names."""
        if targets == "all-linear":
            return list(self.linears)
        if isinstance(targets, str):
            return [linear for linear in self.linears if re.fullmatch(targets, linear.name)]
        return [linear for linear in self.linears if linear.name in targets]

    def adapter_parameters(self, rank: int, targets: str | Sequence[str]) -> int:
        """Of an adapter: `rank` rows for each input and each output of the layers that it changes (Hu et al. 2021)."""
        return sum(linear.num * rank * (linear.inputs + linear.outputs) for linear in self.adapted(targets))


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
