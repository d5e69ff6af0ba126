"""Registers the byte models, the patched ones and local Hugging Face models; importing it loads no model library."""

from collections.abc import Callable
from typing import Any

from spiral import Register, hookimpl
from spiral_models.byte.presets import SHAPES, byte_factory
from spiral_models.huggingface import hf
from spiral_models.patch.presets import SHAPES as PATCH_SHAPES
from spiral_models.patch.presets import patch_factory

MODELS: dict[str, Callable[..., Any]] = {
    **{name: byte_factory(name) for name in SHAPES},
    **{name: patch_factory(name) for name in PATCH_SHAPES},
    "hf": hf,
}
"""Every registered name and its factory, which returns a model and its tokenizer."""


@hookimpl
def register_models(register: Register) -> None:
    for name, factory in MODELS.items():
        register(name, factory)
