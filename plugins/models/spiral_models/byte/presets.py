"""The named sizes of the byte decoder, and the factory of each.

Heavy imports happen inside the factories, so that listing the names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from spiral import SpiralError
from spiral_models.byte.stock import to_stock

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spiral_models.byte.config import ByteConfig

    Pair = tuple[PreTrainedModel, PreTrainedTokenizerBase]

Sharing = Literal["none", "all", "interior"]
"""Which layers have one feed-forward: none, all, or all but the first and the last."""


class Shape(NamedTuple):
    """The numbers that make one size of the byte decoder."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int


# Head sizes are 32 or 64, the small ones that vLLM's CPU attention takes; few KV heads because a
# long context costs what reading the cache costs.
SHAPES: dict[str, Shape] = {
    "byte-0.1m": Shape(hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, inner=192),
    "byte-0.4m": Shape(hidden=96, layers=4, heads=3, kv_heads=1, head_dim=32, inner=256),
    "byte-1m": Shape(hidden=128, layers=6, heads=4, kv_heads=2, head_dim=32, inner=344),
    "byte-3m": Shape(hidden=192, layers=8, heads=6, kv_heads=2, head_dim=32, inner=512),
    "byte-10m": Shape(hidden=320, layers=9, heads=10, kv_heads=2, head_dim=32, inner=896),
    "byte-50m": Shape(hidden=640, layers=12, heads=10, kv_heads=2, head_dim=64, inner=1728),
    "byte-100m": Shape(hidden=768, layers=16, heads=12, kv_heads=4, head_dim=64, inner=2048),
}


CONTEXT = 16_384
"""Positions that no game pays for which does not use them: keys and values are kept for the texts there are. It holds
random games of four in five environments of TextArena, and a pass over one such text takes 1 GB for its mask."""


def byte_config(name: str, context: int = CONTEXT, init_scale: float = 1.0, **changed: Any) -> ByteConfig:
    """The configuration of the preset `name`, a key of `SHAPES`; `changed` are other fields of it."""
    from spiral_models.byte.config import ByteConfig

    shape = SHAPES[name]
    return ByteConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.inner,
        max_position_embeddings=context,
        init_scale=init_scale,
        **changed,
    )


def check_above_zero(name: str, **args: float | None) -> None:
    """Raise SpiralError for an argument of the model `name` that is 0 or less."""
    for argument, value in args.items():
        if value is not None and value <= 0:
            raise SpiralError(f"model {name!r} was given {argument}={value}; give a number above 0")


def byte_factory(name: str) -> Callable[..., Pair]:
    """The factory of the preset `name`."""

    def make(
        context: int = CONTEXT,
        init_scale: float = 1.0,
        share_ffn: Sharing = "none",
        tie: bool = True,
        ffn_rank: int | None = None,
    ) -> Pair:
        """A byte model with fresh weights, drawn from torch's global generator, and its tokenizer.

        context: the most positions a sequence may use. init_scale: multiplies the initial weights' deviation.
        share_ffn: which layers have one feed-forward. tie: whether the head is the embedding. ffn_rank: rank of the
        feed-forward matrices.
        """
        check_above_zero(name, context=context, init_scale=init_scale, ffn_rank=ffn_rank)
        from spiral_models.byte.model import ByteForCausalLM
        from spiral_models.byte.tokenizer import ByteTokenizer

        config = byte_config(name, context, init_scale, share_ffn=share_ffn, tie_word_embeddings=tie, ffn_rank=ffn_rank)
        return ByteForCausalLM(config), ByteTokenizer(model_max_length=context)

    def skeleton(tie: bool = True, **args: Any) -> PreTrainedModel:
        """The model of these arguments without weights, on the meta device."""
        import torch

        from spiral_models.byte.model import ByteForCausalLM

        with torch.device("meta"):
            return ByteForCausalLM(byte_config(name, tie_word_embeddings=tie, **args))

    # Optional members of a model's factory.
    make.skeleton = skeleton  # type: ignore[attr-defined]
    make.to_stock = to_stock  # type: ignore[attr-defined]
    return make
