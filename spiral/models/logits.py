"""Logits at chosen positions of any Hugging Face causal language model; the engine and the learner both score here.

The head runs only where a logit is wanted, which is most of the saving on long prompts. That this equals the model's
own forward is checked on construction, not assumed: a model that scales or caps its logits takes the plain path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spiral.api.errors import RunError
from spiral.models.adapted import check_not_merged, own_parameters, wrapped


class TokenLogits(nn.Module):
    """Wraps `model`; parameters are the model's own."""

    def __init__(self, model: Any) -> None:
        """Raises SpiralError for a model whose adapter is merged into its base."""
        super().__init__()
        check_not_merged(model)
        self.model = model
        model.eval()
        with torch.inference_mode():
            probe = torch.arange(4, device=model.device)[None]
            plain = model(input_ids=probe, use_cache=False).logits[0]
            self._direct = True
            rows = torch.zeros(4, dtype=torch.long, device=model.device)
            own = self(probe, probe, None, rows, probe[0])
            self._direct = bool(torch.equal(plain, own) or torch.allclose(plain, own, rtol=1e-5, atol=1e-5))

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        rows: Tensor,
        columns: Tensor,
        cache: Any = None,
    ) -> Tensor:
        """Logits (N, V) that follow the tokens at (rows[n], columns[n]).

        `ids`, `positions`: (B, T). `mask`: (B, 1, T, S) bool, True where a token may attend; None for causal rows
        padded on the right. `rows`, `columns`: (N,). `cache`: a transformers Cache to write to and attend over.
        """
        if mask is not None and mask.dtype == torch.bool:
            # Some attentions add what they are given; those that take bools would turn them into this in each layer.
            zeros = torch.zeros(mask.shape, dtype=self.model.dtype, device=mask.device)
            mask = zeros.masked_fill_(~mask, -torch.inf)
        inputs = {
            "input_ids": ids,
            "position_ids": positions,
            "attention_mask": mask,
            "past_key_values": cache,
            "use_cache": cache is not None,
        }
        if not self._direct:
            logits: Tensor = self.model(**inputs).logits
            return logits[rows, columns]
        model = wrapped(self.model)
        hidden = model.base_model(**inputs).last_hidden_state
        picked: Tensor = model.get_output_embeddings()(hidden[rows, columns])
        return picked


def context_length(model: Any) -> int:
    """The tokens that a model may look at, those of a prompt and its reply together: `model.context` where its plug-in
    set that, else what its configuration says."""
    most: int = getattr(model.config, "max_position_embeddings", 1 << 30)
    return int(getattr(model, "context", None) or most)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by name, a tied one once; not copies. Of a model that peft wrapped: its active adapter's."""
    return {name: parameter.detach() for name, parameter in own_parameters(model).items()}


def check_same_model(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raise RunError for weights that are not, by name and shape, those of the model of which `own` are."""
    wrong = [name for name in own.keys() | weights.keys() if _shape(own, name) != _shape(weights, name)]
    if wrong:
        name = min(wrong)
        raise RunError(
            f"these weights belong to another model: {name} is {_shape(weights, name)}, and this model needs "
            f"{_shape(own, name)}; use the configuration that they were trained with"
        )


def load_parameters(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy what `parameters` gave into a model. Raises RunError for weights of another model."""
    own = parameters(model)
    check_same_model(own, weights)
    for name, parameter in own.items():
        parameter.copy_(weights[name])


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(weights[name].shape)) if name in weights else "absent"
