"""Turns a byte model into a stock Llama with equal logits, for engines and tools that know only Llama."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from spiral import SpiralError
from spiral_models.byte.block import feed_forward_owners
from spiral_models.byte.config import ByteConfig

_FEED_FORWARD = re.compile(r"(.*layers\.)(\d+)\.(gate_up_proj|down_proj)\.(?:(reduce|expand)\.)?weight")
"""The names of the matrices of a feed-forward, whole or of low rank."""


def llama_config(config: ByteConfig) -> LlamaConfig:
    """The Llama configuration of the same shape."""
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        tie_word_embeddings=config.tie_word_embeddings,
    )


def llama_weights(weights: Mapping[str, Tensor], config: ByteConfig) -> dict[str, Tensor]:
    """Weights of a `ByteForCausalLM` under Llama's names, some or all: views of those given, but for matrices of low
    rank, which are multiplied out. One that several layers have stands under the name of each.

    Raises SpiralError for one factor of such a matrix without the other.
    """
    query, kv = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    renamed: dict[str, Tensor] = {}
    for name, weight in _whole(weights, config).items():
        layer = name.removesuffix("qkv_proj.weight").removesuffix("gate_up_proj.weight")
        if name.endswith("qkv_proj.weight"):
            parts = torch.split(weight, [query, kv, kv])
            for part, piece in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                renamed[f"{layer}self_attn.{part}.weight"] = piece
        elif name.endswith("gate_up_proj.weight"):
            gate, up = weight.chunk(2)
            renamed[f"{layer}mlp.gate_proj.weight"] = gate
            renamed[f"{layer}mlp.up_proj.weight"] = up
        else:
            name = name.replace(".o_proj.", ".self_attn.o_proj.").replace(".down_proj.", ".mlp.down_proj.")
            renamed[name] = weight
    return renamed


def _whole(weights: Mapping[str, Tensor], config: ByteConfig) -> dict[str, Tensor]:
    """The same with the feed-forward of every layer under that layer's name, as one matrix each."""
    owners = feed_forward_owners(config.num_hidden_layers, config.share_ffn)
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        part = _FEED_FORWARD.fullmatch(name)
        if part is None:
            found[name] = weight
            continue
        before, layer, matrix, factor = part.groups()
        if factor == "reduce":
            if f"{before}{layer}.{matrix}.expand.weight" not in weights:
                raise _half(name)
            continue  # with the other factor
        if factor == "expand":
            reduce = weights.get(f"{before}{layer}.{matrix}.reduce.weight")
            if reduce is None:
                raise _half(name)
            weight = weight @ reduce
        for sharing in [n for n, owner in enumerate(owners) if owner == owners[int(layer)]]:
            found[f"{before}{sharing}.{matrix}.weight"] = weight
    return found


def _half(name: str) -> SpiralError:
    return SpiralError(
        f"{name} is one factor of a matrix of low rank, and a Llama has that matrix whole; give both, or leave the "
        "feed-forward of a model with ffn_rank as it is"
    )


def to_llama(model: Any) -> LlamaForCausalLM:
    """A Llama with a copy of a `ByteForCausalLM`'s weights and the same logits, on the same device, in the same dtype.

    Save it with `to_llama(model).save_pretrained(path)`, the tokenizer beside it.
    """
    with torch.random.fork_rng(devices=[]):  # its own initial weights must not cost the run random draws
        llama = LlamaForCausalLM(llama_config(model.config))  # type: ignore[no-untyped-call]
    module = cast(nn.Module, llama)  # transformers leaves `to` untyped
    module.to(device=model.device, dtype=model.dtype)
    module.load_state_dict(llama_weights(model.state_dict(), model.config))
    module.train(model.training)
    return llama
