"""What the models over bytes have in common as Hugging Face models, flat and patched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from spiral_models.byte.attention import RotaryTable
from spiral_models.byte.block import Block, tied_names
from spiral_models.byte.config import DROPOUT_PLACES


class BytePreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The initial weights, run-time dropout, and which parameters several modules have in common."""

    base_model_prefix = "model"
    _no_split_modules = ["Block"]  # noqa: RUF012 - transformers reads a plain list
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: Any) -> None:
        """Raises ValueError for a shape that cannot be built: transformers asks only its own configs."""
        config.validate_architecture()
        super().__init__(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fresh weights as the models say; transformers calls it for each module, ours and inner ones."""
        scale = self.config.init_scale
        if isinstance(module, Block):
            module.initialise(scale)
        elif isinstance(module, nn.Linear):
            # A tied head is the embedding, and drawing it would only cost the seed draws.
            head = self.get_output_embeddings()  # type: ignore[no-untyped-call]
            if module is head and not self.config.tie_word_embeddings:
                init.normal_(module.weight, std=scale / math.sqrt(module.in_features))
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

    def post_init(self) -> None:
        """Declare what is tied, which transformers expects of the class and follows here from the config."""
        self._tied_weights_keys = {**(type(self)._tied_weights_keys or {}), **tied_names(self)}
        super().post_init()  # type: ignore[no-untyped-call]

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """The parameters that are saved once, under another module's name; transformers' own method ties nothing where
        the head is not the embedding."""
        head = dict(super().get_expanded_tied_weights_keys(all_submodels=all_submodels))
        return {**tied_names(self), **head}


def causal_output(
    head: nn.Module, outputs: BaseModelOutputWithPast, logits_to_keep: int | Tensor, labels: Tensor | None
) -> CausalLMOutputWithPast:
    """The output of a causal language model from its hidden states, (B, T, hidden).

    `logits_to_keep`: of the last so many positions, or of the positions it lists. `labels`: (B, T) as in Hugging Face,
    shifted inside, -100 ignored; `loss` is the mean over the others.
    """
    hidden: Any = outputs.last_hidden_state
    if isinstance(logits_to_keep, Tensor):
        hidden = hidden[:, logits_to_keep]
    elif logits_to_keep:
        hidden = hidden[:, -logits_to_keep:]
    logits = head(hidden)
    loss: Any = None
    if labels is not None:
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
    return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=outputs.past_key_values)
