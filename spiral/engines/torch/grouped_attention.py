"""Attention of one query position over keys that several heads share, without a copy of the keys for each head.

transformers repeats keys and values for every head where there is a mask. With one query position the heads of a group
can stand on the axis of the queries instead, which is the same sum.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from spiral.models.adapted import wrapped
from spiral.models.attention import computes_sdpa

NAME = "spiral_grouped"
"""What transformers knows it as."""


def share_keys_of_groups(model: Any) -> None:
    """Let a model that uses transformers' `sdpa` use this attention; any other model stays as it is."""
    inner = wrapped(model)
    if isinstance(inner, PreTrainedModel) and computes_sdpa(inner):
        AttentionInterface.register(NAME, _attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        if inner._can_set_attn_implementation():
            inner.set_attn_implementation(NAME)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query (B, H, T, D) over key and value (B, K, S, D) -> (B, T, H, D)."""
    batch, heads, length, head_dim = query.shape
    one_row = attention_mask is not None and attention_mask.shape[1] == 1 and not rest.get("position_bias")
    if length != 1 or not one_row:
        out: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **rest)[0]
        return out, None
    groups = query.reshape(batch, key.shape[1], heads // key.shape[1], head_dim)
    out = F.scaled_dot_product_attention(groups, key, value, attention_mask, dropout, scale=scaling)
    return out.reshape(batch, 1, heads, head_dim), None
