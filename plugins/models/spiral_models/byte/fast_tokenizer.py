"""The byte tokenizer as a stock `PreTrainedTokenizerFast` with the same ids, for tools without this package.

A byte-level BPE without merges: each byte is one of its letters. Text with lone surrogates, which UTF-8 cannot hold, is
refused by it, where `ByteTokenizer` takes them for `?`.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from spiral_models.byte.config import NUM_BYTES, SPECIAL_TOKENS
from spiral_models.byte.tokenizer import SPARE_TOKENS, ByteTokenizer


def to_fast(tokenizer: ByteTokenizer) -> PreTrainedTokenizerFast:
    """Same ids for every text, with and without `split_special_tokens`, and the same chat template."""
    backend = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(_letters())}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    specials = SPECIAL_TOKENS + SPARE_TOKENS
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    named = {"pad_token": tokenizer.pad_token, "bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        extra_special_tokens=[token for token in specials if token not in named.values()],
        chat_template=tokenizer.chat_template,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **named,
    )


def _letters() -> list[str]:
    """GPT-2's letter of each byte: itself where it can be printed, else the next code point from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    spare = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return [chr(byte if byte in printable else next(spare)) for byte in range(NUM_BYTES)]
