"""A Llama-shaped language model over bytes that is lean enough to run thousands of tiny forwards a second.

The block is pre-norm RMSNorm, half-split rotary positions, grouped-query attention, SwiGLU, a tied head and no
biases, so `llama_export` turns it into a stock Llama by renaming weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from spiral_models.byte.attention import RotaryTable, Rotation, attend, rotate
from spiral_models.byte.config import DROPOUT_PLACES, ByteConfig
from spiral_models.byte.llama_export import llama_config, llama_weights


class ByteLayer(nn.Module):
    """One block. Query, key and value share a matrix, as do gate and up: at this size calls cost most."""

    def __init__(self, config: ByteConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        hidden, inner = config.hidden_size, config.intermediate_size
        self.input_layernorm = nn.RMSNorm(hidden, eps=config.rms_norm_eps)
        num_projected = self.num_heads + 2 * self.num_kv_heads
        self.qkv_proj = nn.Linear(hidden, num_projected * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, hidden, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(hidden, eps=config.rms_norm_eps)
        self.gate_up_proj = nn.Linear(hidden, 2 * inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        is_causal: bool,
        cache: Cache | None,
        dropout: Mapping[str, float],
    ) -> Tensor:
        """(B, T, hidden) -> (B, T, hidden). `dropout`: rates by place; empty outside of training."""
        attended = self.o_proj(self._attention(self.input_layernorm(x), rotation, mask, is_causal, cache))
        if "attention" in dropout:  # its output, never its probabilities: SDPA would lose its fast kernel
            attended = F.dropout(attended, dropout["attention"])
        x = x + attended
        gate, up = self.gate_up_proj(self.post_attention_layernorm(x)).chunk(2, dim=-1)
        fed: Tensor = self.down_proj(F.silu(gate) * up)
        if "feed_forward" in dropout:
            fed = F.dropout(fed, dropout["feed_forward"])
        return x + fed

    def _attention(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, is_causal: bool, cache: Cache | None
    ) -> Tensor:
        batch, length, _ = x.shape
        rotated, kv_heads = self.num_heads + self.num_kv_heads, self.num_kv_heads
        heads = self.qkv_proj(x).view(batch, length, rotated + kv_heads, self.head_dim).transpose(1, 2)
        turned, value = torch.split(heads, [rotated, kv_heads], dim=1)
        query, key = torch.split(rotate(turned, rotation), [self.num_heads, kv_heads], dim=1)
        if cache is not None:
            key, value = cache.update(key, value, self.index)
        return attend(query, key, value, mask, is_causal)


class BytePreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What both byte models share: the config class, the initial weights, run-time dropout."""

    config: ByteConfig
    base_model_prefix = "model"
    _no_split_modules = ["ByteLayer"]  # noqa: RUF012 - transformers reads a plain list
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fresh weights as `ByteModel` says; transformers calls it for each module, ours and inner ones."""
        scale = self.config.init_scale
        if isinstance(module, ByteLayer):
            shrink = 1.0 / math.sqrt(2 * self.config.num_hidden_layers)
            for linear, gain in (
                (module.qkv_proj, 1.0),
                (module.gate_up_proj, 1.0),
                (module.o_proj, shrink),
                (module.down_proj, shrink),
            ):
                init.normal_(linear.weight, std=gain * scale / math.sqrt(linear.in_features))
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=scale / math.sqrt(module.embedding_dim))
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, RotaryTable):
            # from_pretrained builds on the meta device and cannot know what a non-persistent buffer held.
            init.copy_(module.table, module.compute())

    def set_dropout(self, rate: float, places: Sequence[str] = DROPOUT_PLACES) -> None:
        """Change the dropout rate from the next forward on, and where it acts. Raises ValueError for a rate outside
        [0, 1), and for a place that is none of `DROPOUT_PLACES`."""
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"a dropout rate lies in [0, 1), not {rate}")
        if unknown := [place for place in places if place not in DROPOUT_PLACES]:
            raise ValueError(f"dropout acts on {', '.join(DROPOUT_PLACES)}, not on {unknown[0]!r}")
        self.config.dropout, self.config.dropout_places = float(rate), tuple(places)

    def _dropout(self) -> dict[str, float]:
        """The rates that hold now, by place; empty in eval mode."""
        rate = self.config.dropout if self.training else 0.0
        return dict.fromkeys(self.config.dropout_places, rate) if rate else {}


class ByteModel(BytePreTrainedModel):  # type: ignore[no-untyped-call]
    """The decoder without its head.

    Initial weights: normal with deviation init_scale / sqrt(fan in), the two matrices that write into the
    residual stream shrunk by sqrt(2 * layers) as in GPT-2, drawn from torch's global generator.
    """

    def __init__(self, config: ByteConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(ByteLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary = RotaryTable(config)
        self.post_init()  # type: ignore[no-untyped-call]

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
        for layer in self.layers:
            hidden = layer(hidden, rotation, mask, is_causal, past_key_values, dropout)
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

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: ByteConfig) -> None:
        super().__init__(config)
        self.model = ByteModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

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
        """Logits (B, T, vocab), or of the last `logits_to_keep` positions, or of the positions it lists.

        labels: (B, T) as in Hugging Face, shifted inside, -100 ignored; `loss` is the mean over the others.
        """
        outputs = self.model(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        hidden = outputs.last_hidden_state
        if isinstance(logits_to_keep, Tensor):
            hidden = hidden[:, logits_to_keep]
        elif logits_to_keep:
            hidden = hidden[:, -logits_to_keep:]
        logits = self.lm_head(hidden)
        loss: Any = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        result = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=outputs.past_key_values)
        return result.to_tuple() if return_dict is False else result


AutoConfig.register(ByteConfig.model_type, ByteConfig, exist_ok=True)
AutoModel.register(ByteConfig, ByteModel, exist_ok=True)
AutoModelForCausalLM.register(ByteConfig, ByteForCausalLM, exist_ok=True)
