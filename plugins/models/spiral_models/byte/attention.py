"""Rotary positions and grouped-query attention of the byte decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]
"""Cosines and signed sines, each broadcastable to (B, heads, T, head_dim)."""


class RotaryTable(nn.Module):
    """Cosines and signed sines of each position (RoPE, arXiv 2104.09864, halves split as in Llama)."""

    table: Tensor

    def __init__(self, context: int, head_dim: int, theta: float) -> None:
        super().__init__()
        self.context, self.head_dim, self.theta = context, head_dim, theta
        self.register_buffer("table", self.compute(), persistent=False)

    def compute(self) -> Tensor:
        """(context, 2 * head_dim): cosines, then sines whose first half is negated."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        angles = torch.outer(torch.arange(self.context, dtype=torch.float32), 1.0 / self.theta**exponents)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos, -sin, sin), dim=-1)

    def between(self, start: int, stop: int) -> Rotation:
        """The rotation of positions start..stop-1, (T, head_dim) each. ValueError past the context."""
        if stop > self.context:
            raise ValueError(self._overflow(stop - 1))
        cos, sin = self.table[start:stop].chunk(2, dim=-1)
        return cos, sin

    def at(self, position_ids: Tensor) -> Rotation:
        """The rotation of `position_ids` (B|1, T), (B|1, 1, T, head_dim) each. ValueError beyond."""
        if not position_ids.is_cpu:
            self._check(position_ids)
        try:
            rows = F.embedding(position_ids, self.table)
        except IndexError:  # the CPU kernel checks bounds anyway; asking first would cost a reduction a call
            raise ValueError(self._overflow(int(position_ids.max()))) from None
        cos, sin = rows.unsqueeze(1).chunk(2, dim=-1)
        return cos, sin

    def _check(self, position_ids: Tensor) -> None:
        # An index out of range on a GPU kills the process with an assert that names nothing.
        if position_ids.is_meta or (position_ids.is_cuda and torch.cuda.is_current_stream_capturing()):
            return
        if (highest := int(position_ids.max())) >= self.context:
            raise ValueError(self._overflow(highest))

    def _overflow(self, position: int) -> str:
        return f"position {position} is outside the model's context of {self.context} positions"


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each half-split pair of `x` (B, heads, T, head_dim) by its position's angle."""
    cos, sin = rotation
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    # The table may be float32 where the activations are not: under autocast, or loaded as bfloat16.
    return torch.addcmul(x * cos, swapped, sin).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Grouped-query attention: (B, H, T, D) over (B, K, S, D), K dividing H -> (B, T, H * D)."""
    batch, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    if length == 1:
        # One query position: its group of heads becomes the query axis, which is the same sum and faster.
        query = query.reshape(batch, kv_heads, heads // kv_heads, head_dim)
        attention = _one_query if query.is_cpu else F.scaled_dot_product_attention
        return attention(query, key, value, mask).reshape(batch, 1, heads * head_dim)
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=heads != kv_heads
    )
    return out.transpose(1, 2).reshape(batch, length, heads * head_dim)


def _one_query(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention in plain matrix products: on a CPU, torch's fused kernel takes a quarter longer for one position."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(scores.softmax(-1), value)
