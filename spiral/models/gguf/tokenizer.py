"""The byte-level BPE tokenizer in a GGUF file, as transformers' fast tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spiral.api.errors import SpiralError
from spiral.models.gguf.container import GgufFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPLITTERS = {"gpt-2": False, "smollm": True}
"""Name of what cuts a text into words -> whether each digit is a word of its own before the GPT-2 rule."""
_SPECIAL = (3, 4)
"""Types of tokens that no text becomes by merging: control tokens, and those that a user added."""


def fast_tokenizer(file: GgufFile) -> PreTrainedTokenizerFast:
    """Raises SpiralError for a tokenizer of another kind."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    def of(key: str, default: Any = None) -> Any:
        return file.metadata.get(f"tokenizer.ggml.{key}", default)

    if of("model") != "gpt2" or of("pre", "gpt-2") not in SPLITTERS:
        raise SpiralError(
            f"{file.path} has a tokenizer {of('model')!r} that splits as {of('pre')!r}; only byte-level BPE ('gpt2')"
            f" with words as {' or '.join(map(repr, SPLITTERS))} can be read"
        )
    tokens: list[str] = of("tokens")
    merges = [(left, right) for left, right in (merge.split(" ") for merge in of("merges"))]
    backend = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = _splitter(SPLITTERS[of("pre", "gpt-2")])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, of("token_type"), strict=True)
            if kind in _SPECIAL
        ]
    )
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {name: tokens[n] for name, key in names.items() if (n := of(f"{key}_token_id")) is not None}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        chat_template=file.metadata.get("tokenizer.chat_template"),
        model_max_length=file.metadata.get("llama.context_length"),
        clean_up_tokenization_spaces=False,
        **named,
    )


def _splitter(digits: bool) -> Any:
    """Without the digits' own rule a number would become other ids than in training."""
    from tokenizers import pre_tokenizers

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if not digits:
        return gpt2
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
