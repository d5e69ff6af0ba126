"""Models of this distribution in classes that transformers itself has, for tools that know only those."""

from __future__ import annotations

from typing import Any


def to_stock(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A byte model as a Llama with a fast tokenizer, equal in logits and ids; any other model as it is.

    An optional member of a model's factory, which `spiral export` asks.
    """
    from spiral_models.byte.fast_tokenizer import to_fast
    from spiral_models.byte.llama_export import to_llama
    from spiral_models.byte.model import ByteForCausalLM

    return (to_llama(model), to_fast(tokenizer)) if isinstance(model, ByteForCausalLM) else (model, tokenizer)
