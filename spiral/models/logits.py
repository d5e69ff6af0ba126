"""Logits at chosen positions of any Hugging Face causal language model; the engine and the learner both score here.

The head runs only where a logit is wanted, which is most of the saving on long prompts, and the learner runs it a few
tokens at a time, over hidden states that are kept. That this equals the model's own forward is checked on construction,
not assumed. A model that scales or caps its logits is asked for them by its own forward, over the hidden states that
are there already; one whose forward cannot be given hidden states computes its logits whole, at every position.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import MoeModelOutputWithPast

from spiral.api.errors import RunError
from spiral.models.adapted import check_not_merged, own_parameters, wrapped
from spiral.models.sharded import part_like, shapes

LARGE_LOGIT = 100.0
"""Size of the logits at which heads are compared: a cap at 30 changes small ones by less than rounding does."""


class TokenLogits(nn.Module):
    """Wraps `model`; parameters are the model's own."""

    vocabulary: int
    """Logits a token."""

    def __init__(self, model: Any) -> None:
        """Raises SpiralError for a model whose adapter is merged into its base."""
        super().__init__()
        check_not_merged(model)
        self.model = model
        model.eval()
        with torch.inference_mode():
            probe = torch.arange(4, device=model.device)[None]
            plain = model(input_ids=probe, use_cache=False).logits[0]
            self.vocabulary = int(plain.shape[-1])
            self._head = self._find_head(probe, plain)

    @property
    def splits_head(self) -> bool:
        """Whether `hidden` and `head` are there: otherwise `forward` is the only way to logits."""
        return self._head != "whole"

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
        padded on the right; or what `spiral.models.attention.row_mask` gives. `rows`, `columns`: (N,). `cache`: a
        transformers Cache to write to and attend over.
        """
        if not self.splits_head:
            logits: Tensor = self.model(**self._inputs(ids, positions, mask, cache)).logits
            return logits[rows, columns]
        return self.head(self.hidden(ids, positions, mask, rows, columns, cache))

    def hidden(
        self, ids: Tensor, positions: Tensor, mask: Tensor | None, rows: Tensor, columns: Tensor, cache: Any = None
    ) -> Tensor:
        """Hidden states (N, H) of the tokens at (rows[n], columns[n]), of which `head` makes logits; see `forward`."""
        inputs = self._inputs(ids, positions, mask, cache)
        states: Tensor = wrapped(self.model).base_model(**inputs).last_hidden_state
        return states[rows, columns]

    def head(self, hidden: Tensor) -> Tensor:
        """(N, H) hidden states -> (N, V) logits."""
        model = wrapped(self.model)
        if self._head == "forward":
            return _own_head(model, hidden)
        logits: Tensor = model.get_output_embeddings()(hidden)
        return logits

    def _inputs(self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Any) -> dict[str, Any]:
        if isinstance(mask, Tensor) and mask.dtype == torch.bool:
            # Some attentions add what they are given; those that take bools would turn them into this in each layer.
            zeros = torch.zeros(mask.shape, dtype=self.model.dtype, device=mask.device)
            mask = zeros.masked_fill_(~mask, -torch.inf)
        return {
            "input_ids": ids,
            "position_ids": positions,
            "attention_mask": mask,
            "past_key_values": cache,
            "use_cache": cache is not None,
        }

    def _find_head(self, probe: Tensor, plain: Tensor) -> Literal["embeddings", "forward", "whole"]:
        """How logits are made of hidden states, given those of the ids `probe`, (1, 4), by the model's own forward."""
        model, places = wrapped(self.model), probe[0]
        hidden = self.hidden(probe, probe, None, torch.zeros_like(places), places)
        direct = model.get_output_embeddings()(hidden)
        try:
            own = _same(plain, _own_head(model, hidden))
        except (TypeError, ValueError, AttributeError, RuntimeError):  # a forward that takes no such thing
            own = False
        if own and _same(plain, direct):
            large = hidden * (LARGE_LOGIT / direct.abs().max().clamp(min=1e-6)).to(hidden.dtype)
            return "embeddings" if _same(_own_head(model, large), model.get_output_embeddings()(large)) else "forward"
        return "forward" if own else "embeddings" if _same(plain, direct) else "whole"


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(
        torch.equal(one, other) or torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    )


def _own_head(model: Any, hidden: Tensor) -> Tensor:
    """Logits (N, V) by the model's own forward, in which what the decoder computes is given: `hidden`, (N, H)."""
    # A copy that shares every module but the decoder; the model itself stays as it is.
    shell = copy.copy(model)
    shell.__dict__["_modules"] = {**model._modules, model.base_model_prefix: _Given(hidden[None])}
    ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    logits: Tensor = shell(input_ids=ids, use_cache=False).logits
    return logits[0]


class _Given(nn.Module):
    """In the place of a decoder: hidden states that are there already."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self._hidden = hidden

    def forward(self, *_: Any, **__: Any) -> MoeModelOutputWithPast:
        # The output of a mixture of experts has every field that models ask of theirs.
        return MoeModelOutputWithPast(last_hidden_state=self._hidden)  # type: ignore[arg-type]


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
    needed, given = shapes(own), shapes(weights)
    wrong = [name for name in needed.keys() | given.keys() if needed.get(name) != given.get(name)]
    if wrong:
        name = min(wrong)
        raise RunError(
            f"these weights belong to another model: {name} is {_shape(given, name)}, and this model needs "
            f"{_shape(needed, name)}; use the configuration that they were trained with"
        )


def load_parameters(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy what `parameters` gave into a model, whole or sharded. Raises RunError for weights of another model."""
    own = parameters(model)
    check_same_model(own, weights)
    for name, parameter in own.items():
        parameter.copy_(part_like(parameter, weights[name]))


def _shape(known: Mapping[str, torch.Size], name: str) -> str:
    return str(tuple(known[name])) if name in known else "absent"
