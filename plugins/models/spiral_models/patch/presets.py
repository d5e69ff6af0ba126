"""The named sizes of the patched models, and the factory of each.

Heavy imports happen inside the factories, so that listing the names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from spiral import SpiralError
from spiral_models.byte.presets import CONTEXT, Sharing, check_above_zero

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spiral_models.patch.config import PatchConfig

    Pair = tuple[PreTrainedModel, PreTrainedTokenizerBase]

Pooling = Literal["fixed", "spaces", "entropy"]
THRESHOLD = 3.75
"""Bits: patches of 5.8 bytes on this project's documentation and games, 5.0 by `spaces`."""
LONGEST = {"fixed": 6, "spaces": 12, "entropy": 12}
"""Bytes of a patch, at most, by pooling."""
WINDOW = 16
"""Bytes that a byte attends to in the local parts, at least."""


class PatchShape(NamedTuple):
    """The numbers that make one size: those of the parts over bytes, and those of the core."""

    local: int
    local_heads: int
    local_kv_heads: int
    local_inner: int
    encoders: int
    decoders: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int


# As many parameters as the byte models of these names. Local heads are of 32 numbers.
SHAPES: dict[str, PatchShape] = {
    "patch-0.1m": PatchShape(32, 1, 1, 96, 1, 1, hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, inner=128),
    "patch-0.4m": PatchShape(64, 2, 1, 176, 1, 1, hidden=96, layers=3, heads=3, kv_heads=1, head_dim=32, inner=256),
    "patch-1m": PatchShape(96, 3, 1, 256, 1, 1, hidden=160, layers=3, heads=5, kv_heads=1, head_dim=32, inner=472),
    "patch-3m": PatchShape(128, 4, 1, 344, 1, 2, hidden=224, layers=5, heads=7, kv_heads=1, head_dim=32, inner=608),
    "patch-10m": PatchShape(160, 5, 1, 432, 1, 2, hidden=352, layers=7, heads=11, kv_heads=1, head_dim=32, inner=960),
    "patch-50m": PatchShape(256, 8, 2, 688, 2, 3, hidden=704, layers=9, heads=11, kv_heads=1, head_dim=64, inner=2016),
    "patch-100m": PatchShape(
        320, 10, 2, 864, 2, 4, hidden=832, layers=13, heads=13, kv_heads=1, head_dim=64, inner=2304
    ),
}


def patch_config(name: str, **changed: Any) -> PatchConfig:
    """The configuration of the preset `name`, a key of `SHAPES`; `changed` are fields of it."""
    from spiral_models.patch.config import PatchConfig

    shape = SHAPES[name]
    pooling = changed.pop("pooling", "spaces")
    patch = changed.pop("patch", None) or LONGEST[pooling]
    return PatchConfig(
        local_hidden_size=shape.local,
        local_num_attention_heads=shape.local_heads,
        local_num_key_value_heads=shape.local_kv_heads,
        local_intermediate_size=shape.local_inner,
        encoder_layers=shape.encoders,
        decoder_layers=shape.decoders,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.inner,
        pooling=pooling,
        patch=patch,
        window=max(WINDOW, patch + 1),
        **{"max_position_embeddings": CONTEXT, **changed},
    )


def patch_factory(name: str) -> Callable[..., Pair]:
    """The factory of the preset `name`."""

    def make(
        context: int = CONTEXT,
        init_scale: float = 1.0,
        pooling: Pooling = "spaces",
        patch: int | None = None,
        threshold: float | None = None,
        entropy_text: str | None = None,
        share_ffn: Sharing = "none",
        tie: bool = True,
        ffn_rank: int | None = None,
    ) -> Pair:
        """A patched model with fresh weights, drawn from torch's global generator, and its tokenizer.

        context: the most bytes a sequence may use. init_scale: multiplies the initial weights' deviation. pooling: the
        rule by which patches end. patch: their bytes, at most. threshold: bits of entropy that end one. entropy_text: a
        file to count entropies on. share_ffn: which layers of the core have one feed-forward. tie: whether the head is
        the embedding. ffn_rank: rank of the core's feed-forward matrices.
        """
        from spiral_models.byte.tokenizer import ByteTokenizer
        from spiral_models.patch.model import PatchForCausalLM

        config = _config(name, context, init_scale, pooling, patch, threshold, entropy_text, share_ffn, tie, ffn_rank)
        return PatchForCausalLM(config), ByteTokenizer(model_max_length=context)

    def skeleton(**args: Any) -> PreTrainedModel:
        """The model of these arguments without weights, on the meta device."""
        import torch

        from spiral_models.patch.model import PatchForCausalLM

        config = _config(name, **args)
        with torch.device("meta"):
            return PatchForCausalLM(config)

    # An optional member of a model's factory.
    make.skeleton = skeleton  # type: ignore[attr-defined]
    return make


def _config(
    name: str,
    context: int = CONTEXT,
    init_scale: float = 1.0,
    pooling: Pooling = "spaces",
    patch: int | None = None,
    threshold: float | None = None,
    entropy_text: str | None = None,
    share_ffn: Sharing = "none",
    tie: bool = True,
    ffn_rank: int | None = None,
) -> PatchConfig:
    """Of a factory's arguments. Raises SpiralError for those that cannot be, or that nothing would read."""
    check_above_zero(name, context=context, init_scale=init_scale, patch=patch, ffn_rank=ffn_rank)
    for argument, value in (("threshold", threshold), ("entropy_text", entropy_text)):
        if value is not None and pooling != "entropy":
            raise SpiralError(
                f"model {name!r} was given {argument}={value!r}, which pooling=entropy reads, and its pooling is "
                f"{pooling}; leave one of them out"
            )
    from spiral_models.patch.entropy import stops_by

    return patch_config(
        name,
        max_position_embeddings=context,
        init_scale=init_scale,
        pooling=pooling,
        patch=patch,
        stops=stops_by(entropy_text, THRESHOLD if threshold is None else threshold) if pooling == "entropy" else "",
        share_ffn=share_ffn,
        tie_word_embeddings=tie,
        ffn_rank=ffn_rank,
    )
