"""The byte tokenizer: turns text into bytes and back, as a Hugging Face tokenizer.

An id below 256 is that byte. Special tokens begin at 256 and are never made from text that a player wrote, as
long as it is encoded with `split_special_tokens=True`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizer

from spiral_models.byte.config import ACT_ID, NUM_BYTES, SPECIAL_TOKENS, VOCAB_SIZE, ByteConfig

SPARE_TOKENS = tuple(f"<|spare{n}|>" for n in range(VOCAB_SIZE - NUM_BYTES - len(SPECIAL_TOKENS)))
"""Names for the ids that pad the vocabulary, so that every id a model samples can be shown."""

CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|sys|>' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|act|>' }}"
    "{% else %}{{ '<|obs|>' }}{% endif %}"
    "{{ message['content'] + '<|eot|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|act|>' }}{% endif %}"
)

_SIMPLE = {"add_special_tokens", "split_special_tokens"}
"""Options of `encode` that need nothing but the bytes."""

_MARK = "<|"
"""Every special token begins so; text without it needs no search for them."""

_PIECES = tuple(bytes([b]) for b in range(NUM_BYTES)) + tuple(token.encode() for token in SPECIAL_TOKENS + SPARE_TOKENS)
"""The bytes that show each id."""


class ByteTokenizer(PreTrainedTokenizer):
    """Bytes 0..255, `<|pad|> <|bos|> <|sys|> <|obs|> <|act|> <|eot|>` at 256..261, ten spare ids: 272 in all.

    `encode(text)` turns the literal text `<|eot|>` into the special id, as every Hugging Face tokenizer
    does; use `split_special_tokens=True` for text that a player wrote. It adds no special tokens.
    `decode` shows invalid UTF-8 as U+FFFD and so cannot be undone; keep ids, or use `ids_to_bytes`.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 - transformers reads a plain list

    def __init__(
        self,
        pad_token: str | AddedToken = "<|pad|>",
        bos_token: str | AddedToken = "<|bos|>",
        eos_token: str | AddedToken = "<|eot|>",
        chat_template: str | None = CHAT_TEMPLATE,
        **kwargs: Any,
    ) -> None:
        specials = SPECIAL_TOKENS + SPARE_TOKENS
        self._added_tokens_decoder = {
            NUM_BYTES + n: AddedToken(token, special=True, normalized=False) for n, token in enumerate(specials)
        }
        # Loading passes back what was saved; the tables above are fixed and already hold it.
        kwargs.pop("added_tokens_decoder", None)
        kwargs["extra_special_tokens"] = [t for t in specials if t not in {"<|pad|>", "<|bos|>", "<|eot|>"}]
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        super().__init__(  # type: ignore[no-untyped-call]
            pad_token=pad_token,
            bos_token=bos_token,
            eos_token=eos_token,
            chat_template=chat_template,
            special_tokens_pattern="none",
            **kwargs,
        )

    @property
    def vocab_size(self) -> int:
        """The number of bytes; `len(tokenizer)` counts the special tokens too and is the model's vocabulary."""
        return NUM_BYTES

    @property
    def act_token_id(self) -> int:
        """The id that asks for a move."""
        return ACT_ID

    def get_vocab(self) -> dict[str, int]:
        """Every token; byte b is the one-character string chr(b)."""
        return {chr(b): b for b in range(NUM_BYTES)} | self._added_tokens_encoder

    def encode(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """Token ids of `text`: with `split_special_tokens=True` exactly its UTF-8 bytes, special tokens in it included.

        Characters that UTF-8 cannot hold (lone surrogates) become `?`. Other options are Hugging Face's.
        """
        simple = not args and isinstance(text, str) and kwargs.keys() <= _SIMPLE
        if simple and (kwargs.get("split_special_tokens", self.split_special_tokens) or _MARK not in text):
            return list(text.encode("utf-8", "replace"))
        return super().encode(text, *args, **kwargs)

    @staticmethod
    def ids_to_bytes(ids: Iterable[int]) -> bytes:
        """The bytes that `ids` are. Raises ValueError if one of them is a special token."""
        return bytes(ids)

    @staticmethod
    def bytes_to_ids(raw: bytes) -> list[int]:
        """The ids of raw bytes, valid UTF-8 or not; the inverse of `ids_to_bytes`."""
        return list(raw)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        if skip_special_tokens:
            ids = [i for i in ids if i < NUM_BYTES]
        return b"".join([_PIECES[i] for i in ids]).decode("utf-8", "replace")

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return [chr(b) for b in text.encode("utf-8", "replace")]

    def _convert_token_to_id(self, token: str) -> int | None:
        return ord(token) if len(token) == 1 and ord(token) < NUM_BYTES else None

    def _convert_id_to_token(self, index: int) -> str:
        if not 0 <= index < NUM_BYTES:
            raise ValueError(f"id {index} is outside the byte tokenizer's table of {VOCAB_SIZE}")
        return chr(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of tokens as `convert_ids_to_tokens` gives them."""
        raw = b"".join(bytes([ord(t)]) if len(t) == 1 else t.encode() for t in tokens)
        return raw.decode("utf-8", "replace")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Nothing to save: the vocabulary is this file."""
        return ()


AutoTokenizer.register(ByteConfig, ByteTokenizer, exist_ok=True)  # type: ignore[no-untyped-call]
