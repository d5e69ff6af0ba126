"""Causal Hugging Face models from a local directory.

Heavy imports happen inside the factory, so that listing the name costs nothing.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral import SpiralError
from spiral_models.byte.stock import to_stock

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


BYTE_MODELS = ("spiral-byte", "spiral-patch")
"""`model_type` of saved models over bytes; not imported from their configs, which would load transformers."""

SAFELY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Without the second transformers would ask on the terminal whether to run the code that `auto_map` names."""


def hf(path: str, context: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer from a directory that `save_pretrained` wrote, in float32.

    `context`: tokens of a prompt and its reply together; what the model was made for, unless it is less. Nothing is
    downloaded, no code from the directory or the hub is run and no pickle is read, whatever its files ask for. Raises
    SpiralError if it cannot be loaded.
    """
    _check_folder(path)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from spiral_models.products import use_fast_products

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, config=_config(path), dtype=torch.float32, use_safetensors=True, **SAFELY
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(path, **SAFELY)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise SpiralError(
            f"model 'hf' could not load a causal language model and its tokenizer from {path!r} "
            f"({first_line}); save both there with save_pretrained"
        ) from error
    _limit_context(model, path, context)
    _make_savable(model)
    use_fast_products(model)
    return model, tokenizer


def skeleton(path: str, context: int | None = None) -> PreTrainedModel:
    """The model of `hf` without weights, on the meta device, from the folder's config.json alone. Raises SpiralError
    for a folder without one, or with that of something else."""
    _check_folder(path)
    import torch
    from transformers import AutoModelForCausalLM

    if not (Path(path) / "config.json").is_file():
        raise SpiralError(
            f"model 'hf' was asked for {path!r}, which holds no config.json; give the folder of a saved model, whose "
            "config.json says how large it is"
        )
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                _config(path), dtype=torch.float32
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise SpiralError(
            f"the config.json in {path!r} describes no causal language model that transformers knows ({first_line}); "
            "give the folder of one"
        ) from error
    _limit_context(model, path, context)
    return model  # type: ignore[no-any-return]


def _check_folder(path: str) -> None:
    """Raise SpiralError for what is no folder of a model with all of its weights."""
    folder = Path(path)
    if not folder.is_dir():
        raise SpiralError(
            f"model 'hf' was asked for {path!r}, which is not a directory on this machine; "
            "give the path of one that holds a saved model and its tokenizer (`spiral fetch smollm2` writes one)"
        )
    if (folder / "adapter_config.json").exists():  # transformers would load the base model that this file names
        raise SpiralError(
            f"model 'hf' was asked for {path!r}, which holds an adapter; merge it into its model first, as "
            "spiral export does of a run"
        )


def _config(path: str) -> Any:
    from transformers import AutoConfig

    import spiral_models.auto  # noqa: F401

    config: Any = AutoConfig.from_pretrained(path, **SAFELY)
    # What config.json names here may be a kernel on the hub, which is code; without it transformers chooses.
    config._attn_implementation = {"": None, **dict.fromkeys(config.sub_configs)}
    return config


def _limit_context(model: Any, path: str, context: int | None) -> None:
    most = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    if context is not None and not 1 <= context <= most:
        raise SpiralError(f"model 'hf' was asked for a context of {context}; the model in {path!r} takes 1 to {most}")
    model.context = context


def _make_savable(model: Any) -> None:
    """Mend generation settings that transformers loads with a warning and refuses to save, at a run's first checkpoint:
    some models ship a temperature without sampling."""
    settings: Any = model.generation_config
    for changed in ({"do_sample": True}, {"temperature": None, "top_p": None, "top_k": None, "min_p": None}):
        try:
            settings.validate(strict=True)
            return
        except ValueError:
            settings.update(**changed)


def num_pretrained(path: str, context: int | None = None) -> int | None:
    """The number of parameters of the language model in a folder, read from the heads of its files; counted from its
    config.json where that is all there is, as for a plan.

    None for a byte model, which was trained on games and nothing else, and for a folder that cannot be loaded.
    """
    folder = Path(path)
    try:
        if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") in BYTE_MODELS:
            return None
        index = folder / "model.safetensors.index.json"
        names = {"model.safetensors"}
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        elif not any(folder.glob("*.safetensors")):
            return sum(parameter.numel() for parameter in skeleton(path).parameters())
        return sum(_num_weights(folder / name) for name in names)
    except (OSError, ValueError, KeyError, AttributeError, SpiralError):
        return None


def _num_weights(file: Path) -> int:
    """Of a safetensors file: its head is a length of 8 bytes and that much JSON, name -> shape."""
    with file.open("rb") as opened:
        head = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")


# Optional members of a model's factory.
hf.num_pretrained = num_pretrained  # type: ignore[attr-defined]
hf.skeleton = skeleton  # type: ignore[attr-defined]
hf.to_stock = to_stock  # type: ignore[attr-defined]
