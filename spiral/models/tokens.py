"""Text of games and players as ids that hold no control token, and the ids that end a reply."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spiral.api.errors import SpiralError

_BRACKETED = re.compile(r"[<\[{(|].*[>\]})|]", re.DOTALL)
"""What added tokens that mean something look like: `<think>`, `[INST]`. Others are words, or runs of white space."""


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """The tokens that a model takes for more than text, and their ids: the special ones, and those that were added to
    the vocabulary and stand in brackets, such as `<think>`, which `split_special_tokens` leaves whole."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return {
        token.content: int(number)
        for number, token in added
        if token.content.strip() and (token.special or _BRACKETED.fullmatch(token.content.strip()))
    }


class PlainText:
    """Encodes text from games and players, in which `<|eot|>` is seven characters, whoever writes them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, tokens = tokenizer, control_tokens(tokenizer)
        self._control_ids = frozenset(tokens.values())
        # Longest first, so that no token is found inside another that begins alike.
        names = sorted((name.strip() for name in tokens if len(name.strip()) > 1), key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def ids(self, text: str) -> list[int]:
        """The ids of `text`, none of them a control token's."""
        ids = self._encode(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        # Cut inside each name: neither part is a token's whole name, and the ids still spell the text.
        cuts = [0, *(found.start() + 1 for found in self._names.finditer(text)), len(text)]
        ids = self._joined(text[start:end] for start, end in itertools.pairwise(cuts))
        return ids if self._control_ids.isdisjoint(ids) else self._joined(text)

    def _joined(self, parts: Iterable[str]) -> list[int]:
        return [i for part in parts for i in self._encode(part)]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids


def spelt(tokenizer: Any, ids: Sequence[int]) -> str:
    """What ids say, as they stand: with special tokens written out, and white space left alone."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def stop_id(tokenizer: Any) -> int:
    """The tokenizer's end-of-sequence id. Raises SpiralError without one."""
    if tokenizer.eos_token_id is None:
        raise SpiralError("the model's tokenizer has no end-of-sequence token, so no reply could ever end; set one")
    return int(tokenizer.eos_token_id)


@dataclass(frozen=True)
class Vocabulary:
    """What of a model is needed to write prompts and to read replies."""

    tokenizer: Any
    stop_ids: tuple[int, ...]
    """At which the model itself ends a reply; see `generation_stop_ids`."""

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Vocabulary:
        """A model's."""
        return cls(tokenizer, generation_stop_ids(model))


def generation_stop_ids(model: Any) -> tuple[int, ...]:
    """The ids at which the model's own generation config ends a reply, of which chat models have several."""
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if ids is None else (int(ids),) if isinstance(ids, int) else tuple(map(int, ids))
