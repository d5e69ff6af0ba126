"""Observation -> prompt ids, reply -> move, in as few ids as can be: the prompt format of tiny models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spiral.api.records import Turn
from spiral.models.tokens import PlainText, stop_id


class PlainFormat:
    """The observation alone, then the move alone: for tiny models, whose prompt bytes are their budget."""

    def __init__(self, tokenizer: Any, rules: bool = False) -> None:
        """`rules`: put the game's rules before the observation."""
        self._tokenizer, self._rules = tokenizer, rules
        self._ids = PlainText(tokenizer).ids
        self.stop_ids = (stop_id(tokenizer),)
        self._start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        act = getattr(tokenizer, "act_token_id", None)
        self._act = self._ids("\nMove: ") if act is None else [act]

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> list[int]:
        """[bos] rules? observation [act]."""
        text = f"{rules}\n\n{observation}" if self._rules and rules else observation
        return [*self._start, *self._ids(text), *self._act]

    def reply(self, move: str) -> list[int]:
        """The move and the stop id."""
        return [*self._ids(move), *self.stop_ids]

    def read(self, reply: Sequence[int]) -> str | None:
        """Everything before the stop id; None for a reply without one."""
        if tuple(reply[-1:]) != self.stop_ids:
            return None
        # As it stands: white space around a move is another text, and no game that lists its moves takes it.
        return str(self._tokenizer.decode(list(reply[:-1]), skip_special_tokens=False)) or None
