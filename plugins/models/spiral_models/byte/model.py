"""A Llama-shaped language model over bytes that is lean enough to run thousands of tiny forwards a second.

The block is pre-norm RMSNorm, half-split rotary positions, grouped-query attention, SwiGLU, a tied head and no
biases, so `llama_export` turns it into a stock Llama by renaming weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from spiral_models.byte.attention import RotaryTable, Rotation, attend
from spiral_models.byte.block import Block, BlockShape, share_feed_forward
from spiral_models.byte.config import ByteConfig
from spiral_models.byte.llama_export import llama_config, llama_weights
from spiral_models.byte.pretrained import BytePreTrainedModel, causal_output
from spiral_models.byte.stack import ByteStack, can_stack
from spiral_models.products import Linear


class _Attention:
    """Attention of every block of a forward pass: over the new tokens, or over what a cache holds."""

    def __init__(self, mask: Tensor | None, is_causal: bool, cache: Cache | None) -> None:
        self._mask, self._is_causal, self._cache = mask, is_causal, cache

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, index: int) -> Tensor:
        if self._cache is not None:
            key, value = self._cache.update(key, value, index)
        return attend(query, key, value, self._mask, self._is_causal)


class ByteModel(BytePreTrainedModel):  # type: ignore[no-untyped-call]
    """The decoder without its head.

    Initial weights: normal with deviation init_scale / sqrt(fan in), the two matrices that write into the
    residual stream shrunk by sqrt(2 * layers) as in GPT-2, drawn from torch's global generator.
    """

    config: ByteConfig

    def __init__(self, config: ByteConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        depth = config.num_hidden_layers
        blocks = [Block(BlockShape.of(config), index, depth) for index in range(depth)]
        share_feed_forward(blocks, config.share_ffn)
        self.layers = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary = RotaryTable(config.max_position_embeddings, config.head_dim, config.rope_theta)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, hidden) of `input_ids` (B, T), after the last norm.

        attention_mask: None for plain causal attention (right padding then needs no mask); (B, S) with 1 for
        real positions, S counting cached ones; or (B|1, 1, T, S), used as it is: True where attention may go,
        or numbers to add to the scores.
        position_ids: (B|1, T); by default they go on from the cache. ValueError past the context.
        past_key_values: with a 4-D mask and positions, only its `update(key, value, layer)` is called.
        use_cache: True makes a DynamicCache when none is given. A cache that is given is always used.
        """
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        hidden = self.embed_tokens(input_ids)
        rotation = self._rotation(input_ids.shape[1], position_ids, past_key_values)
        mask = self._mask(hidden, attention_mask, position_ids, past_key_values)
        is_causal = mask is None and input_ids.shape[1] > 1
        dropout = self._dropout()
        if "embeddings" in dropout:
            hidden = F.dropout(hidden, dropout["embeddings"])
        attention = _Attention(mask, is_causal, past_key_values)
        for layer in self.layers:
            hidden = layer(hidden, rotation, attention, dropout)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=past_key_values)

    def _rotation(self, length: int, position_ids: Tensor | None, cache: Cache | None) -> Rotation:
        if position_ids is not None:
            return self.rotary.at(position_ids)
        start = 0 if cache is None else int(cache.get_seq_length())
        return self.rotary.between(start, start + length)

    def _mask(
        self, hidden: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, cache: Cache | None
    ) -> Tensor | None:
        """The additive mask every layer uses, or None: causal over exactly the T new positions."""
        if attention_mask is None and cache is None:
            return None
        mask: Any = attention_mask
        if attention_mask is None or attention_mask.dim() == 2:
            mask = create_causal_mask(
                config=self.config,
                inputs_embeds=hidden,
                attention_mask=attention_mask,
                past_key_values=cache,
                position_ids=position_ids,
            )
        if mask is None or mask.dtype != torch.bool:
            return mask  # type: ignore[no-any-return]
        # SDPA would turn booleans into numbers once a layer. The lowest number, not -inf: a padding row that
        # may attend nowhere then gets a useless mean and not NaN, which would poison the rows that read it.
        blocked = torch.full((), torch.finfo(hidden.dtype).min, dtype=hidden.dtype, device=hidden.device)
        return torch.where(mask, torch.zeros_like(blocked), blocked)


class ByteForCausalLM(BytePreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """The decoder and its head, the embedding matrix again; see `ByteModel.forward` for masks and caches."""

    config: ByteConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: ByteConfig) -> None:
        super().__init__(config)
        self.model = ByteModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def stack(self) -> ByteStack | None:
        """Decoders of this shape that an engine runs in one pass; None for widths that grouped products do not take."""
        return ByteStack(self.config) if can_stack(self.config) else None

    def standard_config(self) -> PreTrainedConfig:
        """The configuration of the Llama that this model is, for engines that know no byte models."""
        return llama_config(self.config)

    def standard_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by this model's names under those of the Llama; views, not copies."""
        return llama_weights(weights, self.config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast | tuple[Tensor, ...]:
        """Logits (B, T, vocab); see `causal_output` for what may be asked of them."""
        outputs = self.model(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        result = causal_output(self.lm_head, outputs, logits_to_keep, labels)
        return result.to_tuple() if return_dict is False else result


AutoConfig.register(ByteConfig.model_type, ByteConfig, exist_ok=True)
AutoModel.register(ByteConfig, ByteModel, exist_ok=True)
AutoModelForCausalLM.register(ByteConfig, ByteForCausalLM, exist_ok=True)
