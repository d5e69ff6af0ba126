"""One block of a decoder over bytes, and how blocks have their feed-forward matrices in common or of low rank.

Apart from the models: the flat one is a stack of these blocks, the patched one three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from spiral_models.byte.attention import Rotation, rotate
from spiral_models.products import Linear

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""query (B, H, T, D), key and value (B, K, T, D) of the new tokens, and the number of the block -> (B, T, H * D)."""
_FEED_FORWARD = ("gate_up_proj", "down_proj")


class BlockShape(NamedTuple):
    """The numbers that make a block."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    eps: float = 1e-6
    ffn_rank: int | None = None

    @classmethod
    def of(cls, config: PreTrainedConfig) -> BlockShape:
        """That of the blocks of a configuration with Llama's names."""
        return cls(
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.intermediate_size,
            config.rms_norm_eps,
            config.ffn_rank,
        )


class LowRank(nn.Module):
    """A matrix that is the product of two, with `rank` numbers between them."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.reduce = Linear(inputs, rank, bias=False)
        self.expand = Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        out: Tensor = self.expand(self.reduce(x))
        return out


class Block(nn.Module):
    """Pre-norm attention and SwiGLU. Query, key and value have one matrix, as do gate and up: at this size calls cost
    most."""

    def __init__(self, shape: BlockShape, index: int, depth: int) -> None:
        """`index`: what the attention knows it by. `depth`: how many blocks write into the same residual stream."""
        super().__init__()
        self.index, self.depth = index, depth
        hidden, self.num_heads, self.num_kv_heads, self.head_dim, inner, eps, rank = shape
        self.input_layernorm = nn.RMSNorm(hidden, eps=eps)
        self.qkv_proj = Linear(hidden, (self.num_heads + 2 * self.num_kv_heads) * self.head_dim, bias=False)
        self.o_proj = Linear(self.num_heads * self.head_dim, hidden, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(hidden, eps=eps)
        self.gate_up_proj = _matrix(hidden, 2 * inner, rank)
        self.down_proj = _matrix(inner, hidden, rank)

    def forward(self, x: Tensor, rotation: Rotation, attention: Attention, dropout: Mapping[str, float]) -> Tensor:
        """(B, T, hidden) -> (B, T, hidden). `dropout`: rates by place; empty outside of training."""
        attended = self.o_proj(self._attended(self.input_layernorm(x), rotation, attention))
        if "attention" in dropout:  # its output, never its probabilities: SDPA would lose its fast kernel
            attended = F.dropout(attended, dropout["attention"])
        x = x + attended
        gate, up = self.gate_up_proj(self.post_attention_layernorm(x)).chunk(2, dim=-1)
        fed: Tensor = self.down_proj(F.silu(gate) * up)
        if "feed_forward" in dropout:
            fed = F.dropout(fed, dropout["feed_forward"])
        return x + fed

    def _attended(self, x: Tensor, rotation: Rotation, attention: Attention) -> Tensor:
        batch, length, _ = x.shape
        rotated, kv_heads = self.num_heads + self.num_kv_heads, self.num_kv_heads
        heads = self.qkv_proj(x).view(batch, length, rotated + kv_heads, self.head_dim).transpose(1, 2)
        turned, value = torch.split(heads, [rotated, kv_heads], dim=1)
        query, key = torch.split(rotate(turned, rotation), [self.num_heads, kv_heads], dim=1)
        return attention(query, key, value, self.index)

    def initialise(self, scale: float) -> None:
        """Fresh weights: deviation `scale` / sqrt(fan in), the two matrices that write into the residual stream shrunk
        by sqrt(2 * depth) as in GPT-2."""
        shrink = 1.0 / math.sqrt(2 * self.depth)
        for matrix, gain in (
            (self.qkv_proj, 1.0),
            (self.gate_up_proj, 1.0),
            (self.o_proj, shrink),
            (self.down_proj, shrink),
        ):
            if isinstance(matrix, LowRank):  # its product has the deviation of a whole matrix
                _draw(matrix.reduce, scale)
                _draw(matrix.expand, gain)
            else:
                _draw(matrix, gain * scale)


def share_feed_forward(blocks: Sequence[Block], sharing: str) -> None:
    """Give the blocks that `sharing`, one of `SHARINGS`, names the feed-forward matrices of the first of them.

    The parameters, not their modules: torch's functional_call puts back what it replaced module by module, and of one
    that stands in several places it would put back the replacement.
    """
    for index, owner in enumerate(feed_forward_owners(len(blocks), sharing)):
        for name in _FEED_FORWARD:
            own, first = getattr(blocks[index], name), getattr(blocks[owner], name)
            for mine, given in zip(_linears(own), _linears(first), strict=True):
                mine.weight = given.weight


def feed_forward_owners(num_blocks: int, sharing: str) -> list[int]:
    """For each of so many blocks the number of the one whose feed-forward matrices it has."""
    if sharing == "none":
        return list(range(num_blocks))
    if sharing == "all":
        return [0] * num_blocks
    return [min(index, 1) if index < num_blocks - 1 else index for index in range(num_blocks)]


def tied_names(module: nn.Module) -> dict[str, str]:
    """Name of a parameter that another module has too -> its first name, by which it is saved."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            found[name] = owner
    return found


def _matrix(inputs: int, outputs: int, rank: int | None) -> Any:
    return Linear(inputs, outputs, bias=False) if rank is None else LowRank(inputs, outputs, rank)


def _linears(matrix: nn.Module) -> list[nn.Linear]:
    return [module for module in matrix.modules() if isinstance(module, nn.Linear)]


def _draw(linear: nn.Linear, gain: float) -> None:
    init.normal_(linear.weight, std=gain / math.sqrt(linear.in_features))
