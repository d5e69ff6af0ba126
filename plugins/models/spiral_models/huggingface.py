"""Causal Hugging Face models from a local directory.

Heavy imports happen inside the factory, so that listing the name costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral import SpiralError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def hf(path: str, context: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer from a directory that `save_pretrained` wrote, in float32.

    `context`: tokens of a prompt and its reply together; what the model was made for, unless it is less. Nothing is
    downloaded and no code from the directory is run. Raises SpiralError if it cannot be loaded.
    """
    if not Path(path).is_dir():
        raise SpiralError(
            f"model 'hf' was asked for {path!r}, which is not a directory on this machine; "
            "give the path of one that holds a saved model and its tokenizer"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # These two register the byte model and its tokenizer with transformers, so that saved ones can be loaded.
    import spiral_models.byte.model
    import spiral_models.byte.tokenizer  # noqa: F401

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise SpiralError(
            f"model 'hf' could not load a causal language model and its tokenizer from {path!r} "
            f"({first_line}); save both there with save_pretrained"
        ) from error
    most = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    if context is not None and not 1 <= context <= most:
        raise SpiralError(f"model 'hf' was asked for a context of {context}; the model in {path!r} takes 1 to {most}")
    model.context = context
    return model, tokenizer
