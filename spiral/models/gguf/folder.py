"""Turns a GGUF file into a model folder: config, weights, tokenizer and chat template, as `save_pretrained` writes."""

from __future__ import annotations

from pathlib import Path

from spiral.models.gguf.container import GgufFile
from spiral.models.gguf.llama import llama_config, llama_weights
from spiral.models.gguf.tokenizer import fast_tokenizer
from spiral.runs.files import make_directory, num_bytes, replace_directory

_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Keys of tokens that end a reply."""


def write_folder(source: Path, out: Path) -> int:
    """Write the model in the file `source` to the folder `out`, in float32; the number of its parameters.

    Nothing stays of a folder that could not be finished. Raises SpiralError for a file of another kind of model.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    file = GgufFile(source)
    config, tokenizer = llama_config(file), fast_tokenizer(file)
    weights = {name: torch.from_numpy(weight).contiguous() for name, weight in llama_weights(file, config)}
    ends = [file.metadata.get(f"tokenizer.ggml.{key}") for key in _ENDS]
    unique = list(dict.fromkeys(end for end in ends if end is not None))

    def write(folder: Path) -> None:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder)
        GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=config.bos_token_id,
            eos_token_id=unique[0] if len(unique) == 1 else unique,
            pad_token_id=config.pad_token_id,
        ).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    make_directory(out.parent)
    replace_directory(out, write, num_bytes(weights))
    return sum(weight.numel() for weight in weights.values())
