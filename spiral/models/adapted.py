"""Models that peft wrapped: low-rank adapters in the layers of a frozen base model.

What training changes of such a model is its active adapter alone. That is what crosses from the learner to an engine
and into snapshots; copies of the model share the base. peft is not needed to read this: a model that it wrapped brings
it.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from spiral.api.errors import SpiralError
from spiral.models.adapter_folder import WEIGHTS_FILE


def adapter_of(model: nn.Module) -> str | None:
    """The name of the active adapter of a model that peft wrapped, None for any other model. Raises SpiralError for a
    model with several active adapters, or one that is merged into its base."""
    peft = sys.modules.get("peft")
    if peft is None or not isinstance(model, peft.PeftModel):
        return None
    names = list(model.active_adapters)
    if len(names) != 1:
        raise SpiralError(
            f"the model has {len(names)} active adapters ({', '.join(names)}), and a policy is one adapter over the "
            "base model; activate one with set_adapter"
        )
    return str(names[0])


def check_not_merged(model: nn.Module) -> None:
    """Raise SpiralError for an adapter that is merged into its base, which would play as it is whatever adapter is
    loaded."""
    if adapter_of(model) is not None and any(getattr(module, "merged", False) for module in model.modules()):
        raise SpiralError(
            "the model's adapter is merged into its base, which then answers for every adapter that is loaded; call "
            "unmerge_adapter, or train the merged model as it is without one"
        )


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by name that are a model's weights: those of the active adapter of a model that peft wrapped, else
    all. Whether they have gradients plays no part, since copies that only answer have none."""
    adapter = adapter_of(model)
    return {name: p for name, p in model.named_parameters() if adapter is None or adapter in name.split(".")}


def wrapped(model: Any) -> Any:
    """The model inside of the wrapper, whose layers carry the adapter; any other model itself."""
    return model if adapter_of(model) is None else model.get_base_model()


def copied(model: Any) -> Any:
    """A model with weights of its own, equal to those of `model`, over the same base: the parameters that are no
    weights of its (see `own_parameters`) are shared, not copied.

    So nothing may be merged into the base of `model` while a copy is in use.
    """
    own = own_parameters(model)
    return copy.deepcopy(model, {id(p): p for name, p in model.named_parameters() if name not in own})


def frozen_copy(model: Any) -> Any:
    """As `copied`, for a model that only answers: its own weights have no gradients. Those of a shared base are left as
    they are, since they are the other's too."""
    copied_model = copied(model)
    for parameter in own_parameters(copied_model).values():
        parameter.requires_grad_(False)
    return copied_model


def merged(model: Any) -> Any:
    """A copy of the model inside of the wrapper, with the adapter added to its weights; any other model itself."""
    return model if adapter_of(model) is None else copy.deepcopy(model).merge_and_unload()


def save(model: Any, folder: Path) -> None:
    """Write a model as transformers does, or of a model that peft wrapped the active adapter, as peft does."""
    name = adapter_of(model)
    if name is None:
        model.save_pretrained(folder)
        return
    # Not the model's own save_pretrained, which asks the hub about its base, and writes a page of empty headings.
    peft: Any = sys.modules["peft"]
    weights = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    config = copy.copy(model.peft_config[name])
    config.inference_mode = True
    config.save_pretrained(folder)
    save_file({key: weight.contiguous() for key, weight in weights.items()}, folder / WEIGHTS_FILE, {"format": "pt"})
