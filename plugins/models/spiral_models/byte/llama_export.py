"""Turns a byte model into a stock Llama with equal logits, for engines and tools that know only Llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from spiral_models.byte.config import ByteConfig


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
        tie_word_embeddings=True,
    )


def llama_weights(weights: Mapping[str, Tensor], config: ByteConfig) -> dict[str, Tensor]:
    """Weights of a `ByteForCausalLM` under Llama's names; views of those given, not copies."""
    query, kv = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        layer = name.removesuffix("qkv_proj.weight").removesuffix("gate_up_proj.weight")
        if name.endswith("qkv_proj.weight"):
            start = 0
            for part, size in (("q_proj", query), ("k_proj", kv), ("v_proj", kv)):
                renamed[f"{layer}self_attn.{part}.weight"] = weight[start : start + size]
                start += size
        elif name.endswith("gate_up_proj.weight"):
            gate, up = weight.chunk(2)
            renamed[f"{layer}mlp.gate_proj.weight"] = gate
            renamed[f"{layer}mlp.up_proj.weight"] = up
        else:
            name = name.replace(".o_proj.", ".self_attn.o_proj.").replace(".down_proj.", ".mlp.down_proj.")
            renamed[name] = weight
    return renamed


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
