"""The files of a folder that holds an adapter, as peft saves it.

Apart from what is done with adapters: a config is checked before a model library is loaded.
"""

from __future__ import annotations

from pathlib import Path

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a saved model is an adapter, which needs its base to play."""
    return (folder / CONFIG_FILE).is_file()
