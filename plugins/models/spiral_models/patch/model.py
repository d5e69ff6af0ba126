"""A language model over bytes whose large part runs over patches of them, with the exact probability of every byte.

An encoder over the last bytes; the mean of what it makes of the bytes of each finished patch; a causal core over
patches; what the core makes of a patch, added at every byte from the patch's last one until the next patch ends; a
decoder over the last bytes, and a tied head. So each byte is predicted from all bytes before it and no other: those of
finished patches through the core, and the rest through the window of the local parts, which is longer than any patch.
The shape is that of SpaceByte (arXiv 2404.14408) with pooled patches as in Super Tiny Language Models (arXiv
2405.14159), whose own decoder is not autoregressive within a patch.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from spiral import SpiralError
from spiral_models.byte.attention import RotaryTable
from spiral_models.byte.block import Block, BlockShape, share_feed_forward
from spiral_models.byte.pretrained import BytePreTrainedModel, causal_output
from spiral_models.patch.boundaries import Boundaries
from spiral_models.patch.cache import PatchCache, PatchWindow
from spiral_models.patch.config import PatchConfig
from spiral_models.patch.rows import Parts, PlainRows, Rows, whole_tiles
from spiral_models.patch.tree import Tree
from spiral_models.products import Linear


class PatchModel(BytePreTrainedModel):  # type: ignore[no-untyped-call]
    """The model without its head.

    Initial weights as those of `ByteModel`, each part by its own depth.
    """

    config: PatchConfig

    def __init__(self, config: PatchConfig) -> None:
        super().__init__(config)
        width, context = config.local_hidden_size, config.max_position_embeddings
        core = [Block(BlockShape.of(config), n, config.num_hidden_layers) for n in range(config.num_hidden_layers)]
        share_feed_forward(core, config.share_ffn)
        num_encoders, num_local = config.encoder_layers, config.encoder_layers + config.decoder_layers
        local = [Block(_local_shape(config), n, num_local) for n in range(num_local)]
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.core = nn.ModuleList(core)
        self.encoder, self.decoder = nn.ModuleList(local[:num_encoders]), nn.ModuleList(local[num_encoders:])
        self.pool_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.up_proj = Linear(width, config.hidden_size, bias=False)
        self.core_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.context_proj = Linear(config.hidden_size, width, bias=False)
        self.start = nn.Parameter(torch.empty(width))
        self.norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.local_rotary = RotaryTable(context, config.local_head_dim, config.rope_theta)
        self.core_rotary = RotaryTable(whole_tiles(context), config.head_dim, config.rope_theta)
        self.boundaries = Boundaries(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Boundaries):
            init.copy_(module.stops, module.compute())  # as the table of positions
        elif isinstance(module, PatchModel):
            scale = self.config.init_scale
            for linear in (module.up_proj, module.context_proj):
                init.normal_(linear.weight, std=scale / math.sqrt(linear.in_features))
            init.normal_(module.start, std=scale / math.sqrt(len(module.start)))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: PatchWindow | None = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, local hidden) of `input_ids` (B, T), after the last norm.

        attention_mask: None for causal rows padded on the right; (B, T) with 1 for real positions; or (B|1, 1, T, T),
        True or 0 where a token may attend. The columns a token sees are its ancestors, in the order of its text: what
        patches there are follows from them.
        position_ids: not read, since places follow from the mask or the cache.
        past_key_values: a window of a `PatchCache`, which stands for the mask; ValueError for a cache of another kind.
        use_cache: not read, since no cache is made where none is given.
        """
        rows = self._rows(input_ids, attention_mask, past_key_values)
        dropout = self._dropout()
        hidden = self.embed_tokens(rows.ids)
        if "embeddings" in dropout:
            hidden = F.dropout(hidden, dropout["embeddings"])
        for block in self.encoder:
            hidden = block(hidden, rows.local_rotation, rows.local_attention, dropout)
        pooled, patches = rows.pooled(hidden), None
        if pooled is not None:
            core = self.up_proj(self.pool_norm(pooled)).to(hidden.dtype)  # a float32 stream under autocast
            for block in self.core:
                core = block(core, rows.core_rotation, rows.core_attention, dropout)
            patches = self.context_proj(self.core_norm(core))
        hidden = hidden + rows.contexts(patches, self.start)
        for block in self.decoder:
            hidden = block(hidden, rows.local_rotation, rows.local_attention, dropout)
        states: Any = self.norm(hidden[:, : input_ids.shape[1]])
        return BaseModelOutputWithPast(last_hidden_state=states)

    def _rows(self, ids: Tensor, mask: Tensor | None, window: PatchWindow | None) -> Rows:
        dtype = self.embed_tokens.weight.dtype
        parts = Parts(self.boundaries, self.local_rotary, self.core_rotary, self.config.window, dtype)
        if window is not None:
            if not isinstance(window, PatchWindow):
                raise ValueError(f"a patched model keeps patches too, which a {type(window).__name__} has no place for")
            window.begin(ids, parts)
            return window
        if mask is None or (mask.dim() == 2 and bool(mask.all())):
            return PlainRows(ids, parts)
        if mask.dim() == 2:
            length = ids.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            seen = causal & mask.bool()[:, None]
        else:
            seen = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] >= 0
        return Tree(ids, seen.expand(len(ids), -1, -1), parts)


class PatchForCausalLM(BytePreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """The model and its head, the embedding matrix again unless it is untied; see `PatchModel.forward`."""

    config: PatchConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: PatchConfig) -> None:
        super().__init__(config)
        self.model = PatchModel(config)
        self.lm_head = Linear(config.local_hidden_size, config.vocab_size, bias=False)
        self.post_init()
        # transformers' own caches hold no patches: `generate` computes each text anew, and the engine keeps its own.
        self.generation_config.use_cache = False

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def row_cache(self, max_rows: int, device: torch.device, dtype: torch.dtype) -> PatchCache:
        """What an engine keeps the texts in flight in; `window` of it is given to `forward` as a cache."""
        return PatchCache(self.config, max_rows, device, dtype)

    def all_layers(self) -> tuple[nn.Module, ...]:
        """Those whose activations a learner may compute again: of the parts over bytes, and of the core."""
        return (*self.model.encoder, *self.model.core, *self.model.decoder)

    def standard_config(self) -> PreTrainedConfig:
        """Raises SpiralError: asked by engines that know transformers' architectures only."""
        raise SpiralError(
            "a patched model runs its core once a patch, and vLLM every layer once a token, so vLLM has no form of "
            "it; set engine=torch, or choose a byte model"
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: PatchWindow | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast | tuple[Tensor, ...]:
        """Logits (B, T, vocab); see `causal_output` for what may be asked of them."""
        outputs = self.model(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        result = causal_output(self.lm_head, outputs, logits_to_keep, labels)
        return result.to_tuple() if return_dict is False else result


def _local_shape(config: PatchConfig) -> BlockShape:
    return BlockShape(
        config.local_hidden_size,
        config.local_num_attention_heads,
        config.local_num_key_value_heads,
        config.local_head_dim,
        config.local_intermediate_size,
        config.rms_norm_eps,
    )


AutoConfig.register(PatchConfig.model_type, PatchConfig, exist_ok=True)
AutoModel.register(PatchConfig, PatchModel, exist_ok=True)
AutoModelForCausalLM.register(PatchConfig, PatchForCausalLM, exist_ok=True)
