"""Registers the byte models and the door to local Hugging Face models; importing it loads nothing heavy."""

from spiral import Register, hookimpl
from spiral_models.byte.presets import MODELS


@hookimpl
def register_models(register: Register) -> None:
    for name, factory in MODELS.items():
        register(name, factory)
