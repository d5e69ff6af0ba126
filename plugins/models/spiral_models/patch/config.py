"""The hyper-parameters of the patched models, as a Hugging Face config; imports no torch."""

from transformers import PreTrainedConfig

from spiral_models.byte.config import BOS_ID, DROPOUT_PLACES, EOT_ID, PAD_ID, VOCAB_SIZE, check_heads, check_settings

POOLINGS = ("fixed", "spaces", "entropy")
"""The rules by which a patch ends, see `spiral_models.patch.boundaries`."""


class PatchConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """A decoder over bytes in three parts: an encoder over the last `window` bytes, a core over patches, a decoder over
    the last `window` bytes. Llama's names are those of the core, which is most of the model; those of both parts over
    bytes begin with `local_`.

    `max_position_embeddings` is the context, in bytes. `pooling`: one of POOLINGS. `patch`: bytes of a patch, at most;
    of every one where `pooling` is fixed. `stops`: where `pooling` is entropy, the pairs of bytes with which a patch
    ends, as `spiral_models.patch.entropy` packs them. `window`: bytes that a byte attends to in the local parts, itself
    included; more than a patch has. `share_ffn` and `ffn_rank` are of the core's feed-forward. All else is as in
    `ByteConfig`.
    """

    model_type = "spiral-patch"

    vocab_size: int = VOCAB_SIZE
    hidden_size: int = 128
    intermediate_size: int = 344
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 1
    head_dim: int = 32
    local_hidden_size: int = 96
    local_intermediate_size: int = 256
    local_num_attention_heads: int = 3
    local_num_key_value_heads: int = 1
    local_head_dim: int = 32
    encoder_layers: int = 1
    decoder_layers: int = 1
    pooling: str = "spaces"
    patch: int = 12
    stops: str = ""
    window: int = 16
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
        check_heads(self, "local_")
        check_settings(self)
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {', '.join(POOLINGS)}, not {self.pooling!r}")
        if self.pooling == "entropy" and not self.stops:
            raise ValueError("pooling entropy needs stops, the pairs of bytes with which a patch ends")
        if self.patch < 1:
            raise ValueError(f"a patch has at least 1 byte, not {self.patch}")
        if self.window <= self.patch:
            # The bytes since the last patch ended are seen by the local parts alone, and so is that patch's last one.
            raise ValueError(f"window ({self.window}) must be more than patch ({self.patch})")
        if self.encoder_layers < 0 or self.decoder_layers < 1:
            raise ValueError("a patched model has at least one decoder layer over bytes")
