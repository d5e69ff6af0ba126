"""Attention over rows without padding: several texts after one another in one row, or trees of texts that share a
beginning, by kernels that skip what no token may see. Apart from the models, whose layers call what is named here.

Two numbers a token say all that a mask of (T, T) would: its column, and the last column that may attend to it. Tokens
stand in the order in which a tree is walked through, so what may attend to one stands together.

B rows, T tokens a row.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from spiral.models.adapted import wrapped

Attention = Literal["sdpa", "flex", "flash"]
"""`sdpa`: torch's fused attention, over padded rows and dense masks. `flex`: torch's flex attention, over rows without
padding. `flash`: flash-attention's for texts of various lengths, over rows without padding and without trees."""

BLOCK = 128
"""Tokens by tokens of a tile that flex attention computes or skips."""
_NAMES: dict[Attention, str] = {"flex": "spiral_tiles", "flash": "spiral_texts"}
"""By which a configuration calls them; transformers takes what has "flash" in its name for a kernel to fetch."""


def attention_of(model: Any) -> Attention:
    """What `set_attention` chose."""
    name = getattr(wrapped(model).config.get_text_config(), "_attn_implementation", None)
    return next((kind for kind, own in _NAMES.items() if own == name), "sdpa")


def set_attention(model: Any, kind: Attention) -> None:
    """Let a model's layers compute `kind` for rows without padding; all else they are given they compute as before.

    Only for a model of which `hindrance` says nothing.
    """
    for name in _NAMES.values():
        AttentionInterface.register(name, _attend)
        AttentionMaskInterface.register(name, sdpa_mask)
    wrapped(model).set_attn_implementation(_NAMES.get(kind, "sdpa"))


def computes_sdpa(model: Any) -> bool:
    """Whether a model of transformers computes torch's attention by name, where it is given dense masks."""
    return wrapped(model).config._attn_implementation in ("sdpa", *_NAMES.values())


def hindrance(model: Any, kind: Attention) -> str | None:
    """Why a model on its device cannot compute `kind`, as the end of a sentence; None where it can."""
    model, device = wrapped(model), model.device.type
    if kind == "sdpa":
        return None
    if not getattr(model, "_supports_attention_backend", False) or not computes_sdpa(model):
        return f"{type(model).__name__} has an attention of its own"
    if device != "cuda":
        missing = "torch's flex attention has no backward pass" if kind == "flex" else "flash-attention has no kernel"
        return f"{missing} on this device ({device})"
    if kind == "flex" and importlib.util.find_spec("triton") is None:
        return "torch compiles flex attention with triton, which is not installed"
    if kind == "flash" and importlib.util.find_spec("flash_attn") is None:
        return "flash-attention is not installed (pip install flash-attn)"
    return None


def row_mask(model: Any, last: Tensor, bounds: Tensor | None) -> Any:
    """What a model takes in the place of a mask for rows without padding.

    `last`: (B, T), the last column that may attend to each token. `bounds`: of `text_bounds`, None where there are
    trees, which flash-attention cannot tell.
    """
    kind = attention_of(model)
    if kind == "flex":
        return block_mask(last)
    if kind == "flash" and bounds is not None:
        return bounds
    columns = torch.arange(last.shape[1], device=last.device)
    return ((columns <= columns[:, None]) & (columns[:, None] <= last[:, None]))[:, None]


def block_mask(last: Tensor) -> BlockMask:
    """The mask of `row_mask` as flex attention takes it: which tiles have a pair to compute, and which only such; made
    from the tiles' extremes, without a (T, T) tensor."""
    num_rows, width = last.shape
    num = -(-width // BLOCK)
    padded = torch.nn.functional.pad(last, (0, num * BLOCK - width), value=-1).view(num_rows, 1, num, BLOCK)
    starts = torch.arange(num, device=last.device)[:, None] * BLOCK  # of queries; keys are columns of what follows
    below = torch.arange(num, device=last.device) * BLOCK < starts
    diagonal = torch.eye(num, dtype=torch.bool, device=last.device)
    # Queries come after the keys of a tile below the diagonal: the first one sees a key if any does, and all see it if
    # the last one does.
    some = (below & (padded.amax(-1)[:, :, None] >= starts)) | diagonal
    whole = below & (padded.amin(-1)[:, :, None] >= starts + BLOCK - 1)

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query <= last[row, key])

    return BlockMask.from_kv_blocks(
        *_listed(some & ~whole), *_listed(whole), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(width, width)
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, Q, K) bool -> the number of tiles of each Q, and their numbers first in order, as BlockMask has them."""
    return tiles.sum(-1, dtype=torch.int32), tiles.int().argsort(dim=-1, descending=True, stable=True).int()


def text_bounds(starts: list[int], width: int) -> Tensor:
    """Where the texts of a row of `width` tokens begin and end, as flash-attention takes it: (1, 1, L, N + 1) int32 of
    N texts, the longest of L tokens, each of the L the same. So it passes for a mask of four dimensions, which models
    hand on as it is, and L is known without reading it from the device."""
    ends = torch.tensor([*starts, width], dtype=torch.int32)
    return ends.expand(1, 1, int(ends.diff().max()), -1)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """(B, H, T, D) over (B, K, T, D), K dividing H -> (B, T, H, D)."""
    if isinstance(attention_mask, BlockMask):
        return _flex(query, key, value, attention_mask, scaling, softcap), None
    if attention_mask is not None and attention_mask.dtype == torch.int32:
        return _flash(query, key, value, attention_mask, scaling, softcap), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def _flex(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float | None, softcap: float | None
) -> Tensor:
    # Under autocast the projections are bfloat16, and queries and keys float32 again after their rotation.
    query, key = query.to(value.dtype), key.to(value.dtype)
    groups = query.shape[1] // key.shape[1]
    if query.shape[1] & (query.shape[1] - 1):  # its kernels group powers of two alone
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        groups = 1

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    attend = _compiled_flex() if query.is_cuda else flex.flex_attention
    score = None if softcap is None else capped
    out: Tensor = attend(query, key, value, score, mask, scale=scaling, enable_gqa=groups > 1)
    return out.transpose(1, 2).contiguous()


@functools.cache
def _compiled_flex() -> Any:
    return torch.compile(flex.flex_attention)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scaling: float | None, softcap: float | None
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    flat = [x.to(value.dtype).transpose(1, 2).flatten(0, 1) for x in (query, key, value)]  # (T, H, D), as it takes them
    ends, longest = bounds[0, 0, 0].contiguous(), bounds.shape[2]
    out: Tensor = flash_attn_varlen_func(
        *flat, ends, ends, longest, longest, softmax_scale=scaling, causal=True, softcap=softcap or 0.0
    )
    return out[None]
