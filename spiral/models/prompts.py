"""Observation -> prompt ids, reply -> move: the prompt formats that the core ships.

Text from games and players is encoded as plain text, so a player who writes `<|eot|>` writes seven characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spiral.api.answers import last_boxed
from spiral.api.errors import SpiralError


class PlainFormat:
    """The observation alone, then the move alone: for tiny models, whose prompt bytes are their budget."""

    def __init__(self, tokenizer: Any, rules: bool = False) -> None:
        """`rules`: put the game's rules before the observation."""
        self._tokenizer, self._rules = tokenizer, rules
        self.stop_ids = (_stop_id(tokenizer),)
        self._start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        act = getattr(tokenizer, "act_token_id", None)
        self._act = _plain_ids(tokenizer, "\nMove: ") if act is None else [act]

    def encode(self, rules: str, observation: str) -> list[int]:
        """[bos] rules? observation [act]."""
        text = f"{rules}\n\n{observation}" if self._rules and rules else observation
        return [*self._start, *_plain_ids(self._tokenizer, text), *self._act]

    def reply(self, move: str) -> list[int]:
        """The move and the stop id."""
        return [*_plain_ids(self._tokenizer, move), *self.stop_ids]

    def read(self, reply: Sequence[int]) -> str | None:
        """Everything before the stop id; None for a reply without one."""
        if tuple(reply[-1:]) != self.stop_ids:
            return None
        # As it stands: white space around a move is another text, and no game that lists its moves takes it.
        return str(self._tokenizer.decode(list(reply[:-1]), skip_special_tokens=False)) or None


class BoxedFormat:
    """SPIRAL's format for pretrained models: think step by step, then the move in \\boxed{...}.

    Source: SPIRAL (arXiv 2506.24119), the Qwen3 template; wrapped in the tokenizer's chat template where it has one.
    """

    def __init__(self, tokenizer: Any, rules: bool = True) -> None:
        """`rules`: put the game's rules before the observation."""
        self._tokenizer, self._rules = tokenizer, rules
        self.stop_ids = (_stop_id(tokenizer),)
        self._before, self._after = self._frame()

    def encode(self, rules: str, observation: str) -> list[int]:
        """The template's ids around the text of this decision."""
        text = f"{rules}\n\n{observation}" if self._rules and rules else observation
        request = (
            "You are playing a game. Make valid moves to win.\n"
            f"Observation: {text}\n"
            "Please reason step by step, and put your final answer within \\boxed{}."
        )
        return [*self._before, *_plain_ids(self._tokenizer, request), *self._after]

    def reply(self, move: str) -> None:
        """Many thoughts lead to one move, so no single reply stands for it."""
        return None

    def read(self, reply: Sequence[int]) -> str | None:
        """The inside of the last \\boxed{...} with balanced braces; None if there is none."""
        return last_boxed(str(self._tokenizer.decode(list(reply), skip_special_tokens=True)))

    def _frame(self) -> tuple[list[int], list[int]]:
        """The ids of the chat template before and after the user's text; a plain frame if there is no template."""
        if getattr(self._tokenizer, "chat_template", None) is None:
            start = [] if self._tokenizer.bos_token_id is None else [self._tokenizer.bos_token_id]
            return [*start, *_plain_ids(self._tokenizer, "User: ")], _plain_ids(self._tokenizer, "\nAssistant:")
        mark = "\x00SPIRAL\x00"
        message = [{"role": "user", "content": mark}]
        text = self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        before, _, after = str(text).partition(mark)
        encode = self._tokenizer.encode
        return encode(before, add_special_tokens=False), encode(after, add_special_tokens=False)


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids


def _stop_id(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise SpiralError("the model's tokenizer has no end-of-sequence token, so no reply could ever end; set one")
    return int(tokenizer.eos_token_id)
