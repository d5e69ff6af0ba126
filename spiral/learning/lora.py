"""Low-rank adapters (LoRA) as what a run trains: wraps a model with peft, and freezes all of its own weights.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models". Each adapted layer computes W x + s B A x, with B
zeros at first, so that the run starts from the model as it is; s is alpha / rank, or alpha / sqrt(rank) with rsLoRA
(Kalajdzievski 2023). The learner itself is that of every weight, since a wrapped model's own are its adapter's.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from spiral.api.errors import SpiralError
from spiral.models.adapted import adapter_of

LINEAR = (nn.Linear, Conv1D)
"""Layers that are a matrix: GPT-2's are transformers' own."""


def prepare(
    model: Any, rank: int = 16, alpha: int = 32, targets: Collection[str] | None = None, rslora: bool = False
) -> Any:
    """`model` with an adapter in its layers, in eval mode; A is drawn from torch's global generator.

    `targets`: layers by the ends of their names, such as q_proj; None for every linear layer but the head. Raises
    SpiralError for targets that are no layer's name, a tied head or embedding among them, and without peft.
    """
    try:
        import peft
    except ImportError as error:
        raise SpiralError(f'learner lora needs peft ({error}): pip install "spiral-selfplay[lora]"') from error
    if rank < 1 or alpha < 1:
        raise SpiralError(f"learner lora was given rank={rank} and alpha={alpha}; each must be 1 or more")
    if adapter_of(model) is not None:
        raise SpiralError("learner lora was given a model with an adapter already; merge that, or take learner full")
    layers = chosen(model, targets)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, use_rslora=rslora, lora_dropout=0.0)
    with warnings.catch_warnings():  # of a tied head, which was looked for, and of GPT-2's layers, which are found
        warnings.simplefilter("ignore", UserWarning)
        # No task: with one peft passes arguments that not every model takes. The new layers come in training mode.
        return peft.get_peft_model(model, config).eval()


def chosen(model: nn.Module, targets: Collection[str] | None) -> list[str]:
    """The ends of the names of the layers that get an adapter, sorted. Raises SpiralError as `prepare` says."""
    layers = _layers(model)
    if targets is None:
        return sorted({_last(name) for name, layer in layers.items() if isinstance(layer, LINEAR)} - _ends(model))
    named = {target: [n for n in layers if n == target or n.endswith(f".{target}")] for target in targets}
    missing = [target for target, found in named.items() if not found]
    if missing or not named:
        known = ", ".join(sorted({_last(name) for name in layers}))
        raise SpiralError(
            f"learner lora was asked for targets [{', '.join(targets)}], and "
            f"{f'no layer is called {missing[0]}' if missing else 'that names no layer'}; the model's layers are "
            f"{known}; name some of these, or leave targets out for every linear layer but the head"
        )
    tied = _tied(model)
    if wrong := [name for found in named.values() for name in found if id(layers[name]) in tied]:
        raise SpiralError(
            f"learner lora was asked for an adapter of {wrong[0]}, and this model's head and embedding are one matrix, "
            "so that merged it would change both; name other targets, or leave them out for every linear layer but the "
            "head"
        )
    return sorted(named)


def _layers(model: nn.Module) -> Mapping[str, nn.Module]:
    """By name, what an adapter can be of."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (*LINEAR, nn.Embedding))}


def _ends(model: Any) -> set[str]:
    """The last part of the head's name; none without a head."""
    head = model.get_output_embeddings()
    return {_last(name) for name, module in model.named_modules() if module is head}


def _tied(model: Any) -> set[int]:
    """The identities of head and embedding where they are one matrix."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return {id(head), id(embedding)} if head is not None and head.weight is embedding.weight else set()


def _last(name: str) -> str:
    return name.rpartition(".")[2]
