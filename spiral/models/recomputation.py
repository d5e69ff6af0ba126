"""Activation checkpointing of a model's decoder layers: their inputs are kept, and all else is computed again in the
backward pass (Chen et al. 2016, arXiv 1604.06174).

transformers' own switch works in train mode only, in which an update of self-play must not be. Here the layers are
changed for the length of a forward pass, so that its other uses, its copies and its parameters' names stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spiral.api.errors import SpiralError
from spiral.models.adapted import wrapped


def decoder_layers(model: Any) -> tuple[nn.Module, ...]:
    """The layers that hidden states go through one after another: those that the model's optional member `all_layers()`
    gives, or a list of as many modules as its configuration has layers. Raises SpiralError for neither."""
    own = getattr(wrapped(model), "all_layers", None)
    if own is not None:
        return tuple(own())
    num_layers = model.config.get_text_config().num_hidden_layers
    for module in wrapped(model).base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return tuple(module)
    raise SpiralError(
        f"learner.checkpoint_activations is true, and {type(model).__name__} has no list of its {num_layers} layers to "
        "compute again; set it to false, and learner.micro_batch_tokens lower"
    )


@contextmanager
def recomputed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """A forward pass whose backward pass computes each of `layers` again."""
    for layer in layers:
        # With dropout, which train mode has, the second computation must drop what the first one did: the generators'
        # state is kept for it, and only then.
        layer.forward = partial(_checkpointed, layer.forward, layer.training)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again


def _checkpointed(forward: Callable[..., Any], draws: bool, /, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # Not reentrant: that would need inputs with gradients, which frozen embeddings do not give, and all adapters but
    # the last layer's would stay as they were.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=draws, **kwargs)
