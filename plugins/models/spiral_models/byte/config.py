"""The hyper-parameters of the byte models, as a Hugging Face config; imports no torch."""

from transformers import PreTrainedConfig

NUM_BYTES = 256
"""Ids 0..255 are the bytes themselves."""

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|sys|>", "<|obs|>", "<|act|>", "<|eot|>")
"""The special tokens, in the order of their ids from 256."""

VOCAB_SIZE = 272
"""Bytes, specials and ten spare ids: the embedding is padded to a multiple of 16."""

PAD_ID, BOS_ID, _, _, ACT_ID, EOT_ID = range(NUM_BYTES, NUM_BYTES + len(SPECIAL_TOKENS))

DROPOUT_PLACES = ("embeddings", "attention", "feed_forward")
"""Where dropout may act: on the embeddings, and on what the two halves of each block add."""
SHARINGS = ("none", "all", "interior")
"""Which layers have one feed-forward: none, all, or all but the first and the last."""


class ByteConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """A Llama-shaped decoder over bytes. Field names are Llama's, so that tools which read them work.

    `max_position_embeddings` is the context: the number of positions a sequence may use.
    `init_scale` multiplies every initial weight's standard deviation (see `ByteModel`).
    `dropout` acts only in train mode, at `dropout_places`, never on attention probabilities; `set_dropout` of the model
    changes both.
    `share_ffn`: which layers have one feed-forward, see `spiral_models.byte.block`. `ffn_rank`: of its matrices, each
    of which is then the product of two; None for whole ones.
    """

    model_type = "spiral-byte"

    vocab_size: int = VOCAB_SIZE
    hidden_size: int = 128
    intermediate_size: int = 344
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    max_position_embeddings: int = 1024
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    init_scale: float = 1.0
    dropout: float = 0.0
    dropout_places: list[str] | tuple[str, ...] = DROPOUT_PLACES
    share_ffn: str = "none"
    ffn_rank: int | None = None
    pad_token_id: int | None = PAD_ID
    bos_token_id: int | None = BOS_ID
    eos_token_id: int | list[int] | None = EOT_ID
    tie_word_embeddings: bool = True

    def validate_architecture(self) -> None:
        """Called when a model is made; raises ValueError for a shape that cannot be built."""
        check_heads(self, "")
        check_settings(self)


def check_heads(config: PreTrainedConfig, part: str) -> None:
    """Raise ValueError for heads that cannot be built; their names in a config begin with `part`."""
    heads, kv_heads, size = (
        getattr(config, part + name) for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    if heads % kv_heads:
        raise ValueError(
            f"{part}num_attention_heads ({heads}) must be a multiple of {part}num_key_value_heads ({kv_heads})"
        )
    if size % 2:
        raise ValueError(f"{part}head_dim must be even for rotary positions, not {size}")


def check_settings(config: PreTrainedConfig) -> None:
    """Raise ValueError for settings of both kinds of models that mean nothing."""
    if config.max_position_embeddings < 1:
        raise ValueError(f"the context must be at least 1, not {config.max_position_embeddings}")
    if unknown := [place for place in config.dropout_places if place not in DROPOUT_PLACES]:
        raise ValueError(f"dropout_places names {unknown[0]!r}, and may name {', '.join(DROPOUT_PLACES)}")
    if config.init_scale <= 0:
        raise ValueError(f"init_scale must be above 0, not {config.init_scale}")
    if config.share_ffn not in SHARINGS:
        raise ValueError(f"share_ffn is {', '.join(SHARINGS)}, not {config.share_ffn!r}")
    if config.ffn_rank is not None and config.ffn_rank < 1:
        raise ValueError(f"ffn_rank must be at least 1, not {config.ffn_rank}")
