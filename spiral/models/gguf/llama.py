"""A Llama in a GGUF file -> the configuration and the weights of transformers' Llama."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from spiral.api.errors import SpiralError
from spiral.models.gguf.container import GgufFile

if TYPE_CHECKING:
    from transformers import LlamaConfig

ARCHITECTURE = "llama"
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama_config(file: GgufFile) -> LlamaConfig:
    """Raises SpiralError for another architecture, or metadata that lacks something."""
    from transformers import LlamaConfig

    found = file.metadata.get("general.architecture")
    if found != ARCHITECTURE:
        raise SpiralError(f"{file.path} holds a model of architecture {found!r}, and only {ARCHITECTURE!r} can be read")
    try:
        return LlamaConfig(**_shape(file))
    except KeyError as error:
        raise SpiralError(f"{file.path} does not say {error.args[0]}; it is damaged, or no model") from error


def _shape(file: GgufFile) -> dict[str, Any]:
    known = file.metadata

    def of(key: str) -> Any:
        return known[f"{ARCHITECTURE}.{key}"]

    heads = of("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(known["tokenizer.ggml.tokens"]),
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": known.get(f"{ARCHITECTURE}.attention.head_count_kv", heads),
        "head_dim": known.get(f"{ARCHITECTURE}.rope.dimension_count", of("embedding_length") // heads),
        "max_position_embeddings": of("context_length"),
        # Kept as float32: its shortest text is the number that was meant.
        "rms_norm_eps": float(str(np.float32(of("attention.layer_norm_rms_epsilon")))),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(known.get(f"{ARCHITECTURE}.rope.freq_base", 10_000.0)),
        },
        "bos_token_id": known.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": known.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": known.get("tokenizer.ggml.padding_token_id"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "dtype": "float32",
    }


def llama_weights(file: GgufFile, config: LlamaConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Every weight under transformers' name, float32. Raises SpiralError for a tensor that a Llama does not have."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads or config.num_attention_heads}
    for name in file.tensors:
        if name in _OUTSIDE:
            yield _OUTSIDE[name], file.tensor(name)
            continue
        parts = name.split(".")
        if len(parts) != 4 or parts[0] != "blk" or parts[2] not in _INSIDE or parts[3] != "weight":
            raise SpiralError(f"{file.path} holds a tensor '{name}', which a Llama as transformers knows it has not")
        _, layer, kind, _ = parts
        weight = file.tensor(name)
        if kind in heads:
            weight = _halves(weight, heads[kind])
        yield f"model.layers.{layer}.{_INSIDE[kind]}.weight", weight


def _halves(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of a query or key matrix, (heads x size, hidden), reordered within each head.

    ggml turns neighbouring rows (0, 1), (2, 3), ... by one angle each, transformers a row of the first half with its
    counterpart of the second: the even rows come first, then the odd ones.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(rows, columns)
