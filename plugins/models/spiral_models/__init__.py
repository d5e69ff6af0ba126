"""Registers the byte models and local Hugging Face models; importing it loads no model library."""

from collections.abc import Callable
from typing import Any

from spiral import Register, hookimpl
from spiral_models.byte.presets import SHAPES, byte_factory
from spiral_models.huggingface import hf

MODELS: dict[str, Callable[..., Any]] = {**{name: byte_factory(name) for name in SHAPES}, "hf": hf}
"""Every registered name and its factory, which returns a model and its tokenizer."""


@hookimpl
def register_models(register: Register) -> None:
    for name, factory in MODELS.items():
        register(name, factory)
