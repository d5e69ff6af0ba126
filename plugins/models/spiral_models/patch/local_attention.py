"""Attention of each byte to the last `window` bytes, in blocks: a block of queries sees the keys of its own block and
of the one before it, so that a row of T bytes costs T times the window and not T squared.

B rows, T tokens a row, H heads, K of keys and values, D numbers a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def num_blocks(length: int, window: int) -> int:
    """That many tokens make, each of `window` tokens."""
    return -(-length // window)


def band(window: int, blocks: int, known: Tensor, dtype: torch.dtype) -> Tensor:
    """What `in_blocks` adds to the scores, (B * blocks, 1, window, 2 * window). `known`: (B, window) bool, which of the
    tokens before the first block there are."""
    place = torch.arange(window, device=known.device)
    distance = place[:, None] + window - torch.arange(2 * window, device=known.device)
    seen = ((distance >= 0) & (distance < window)).expand(len(known), blocks, 1, window, 2 * window).clone()
    seen[:, 0, :, :, :window] &= known[:, None, None]
    blocked = torch.zeros(seen.shape, dtype=dtype, device=known.device).masked_fill_(~seen, -math.inf)
    return blocked.flatten(0, 1)


def in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, before: Pair | None = None) -> Tensor:
    """(B, H, T, D) over (B, K, T, D), T a multiple of the window -> (B, T, H * D). `mask`: of `band`. `before`: keys
    and values of the tokens before the first, (B, window, K, D) each; without it there are none."""
    batch, heads, length, head_dim = query.shape
    window = mask.shape[-2]
    blocks = length // window
    queries = query.transpose(1, 2).view(batch * blocks, window, heads, head_dim).transpose(1, 2)
    keys, values = (
        _with_block_before(x.transpose(1, 2), window, None if before is None else before[n])
        for n, x in enumerate((key, value))
    )
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=heads != key.shape[1])
    return out.transpose(1, 2).reshape(batch, length, heads * head_dim)


def _with_block_before(x: Tensor, window: int, before: Tensor | None) -> Tensor:
    """(B, T, K, D) -> (B * blocks, K, 2 * window, D)."""
    batch, _, kv_heads, head_dim = x.shape
    own = x.reshape(batch, -1, window, kv_heads, head_dim)
    first = torch.zeros_like(own[:, :1]) if before is None else before[:, None]
    pairs = torch.cat((torch.cat((first, own[:, :-1]), 1), own), 2)
    return pairs.flatten(0, 1).transpose(1, 2)
