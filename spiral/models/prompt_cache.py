"""A cache in front of a prompt format: games say the same things again and again, and encoding text is slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spiral.api.records import Turn
from spiral.api.training import (
    PromptFormat,
    SpellsReplies,
    WritesReplies,
    continues,
    drops_turns,
    has_history,
    lists_moves,
    min_new_tokens,
)

_MAX_CACHED_TOKENS = 4_000_000
"""Tokens of prompts, of replies read and of legal replies that are remembered: about 40 bytes each."""


class Prompter:
    """A prompt format that remembers what it encoded and read."""

    def __init__(self, prompt_format: PromptFormat, stop_ids: Sequence[int] = ()) -> None:
        """`stop_ids`: those that end a reply of the model, whatever the format says of it."""
        self._format = prompt_format
        self.stop_ids = tuple(dict.fromkeys((*prompt_format.stop_ids, *stop_ids)))
        self.lists_moves, self.has_history = lists_moves(prompt_format), has_history(prompt_format)
        self.drops_turns = drops_turns(prompt_format)
        self.continuation, self.min_new_tokens = continues(prompt_format), min_new_tokens(prompt_format)
        self._prompts: dict[tuple[str, str, tuple[str, ...] | None], tuple[int, ...]] = {}
        self._moves: dict[tuple[int, ...], str | None] = {}
        self._legal: dict[tuple[str, ...], tuple[tuple[int, ...], ...] | None] = {}
        self._prompt_tokens = self._reply_tokens = self._legal_tokens = 0

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> tuple[int, ...]:
        """Prompt ids for a decision; see `PromptFormat.encode`. `moves`: given or not where the format names none."""
        # Here and not by each caller: some have the moves for another reason, and the prompt must not depend on that.
        moves = moves if self.lists_moves else None
        if self.has_history and turns:  # a transcript hardly comes twice
            return tuple(self._format.encode(rules, observation, moves, turns))
        key = (rules, observation, None if moves is None else tuple(moves))
        ids = self._prompts.get(key)
        if ids is None:
            ids = tuple(self._format.encode(rules, observation, moves, ()))
            self._prompt_tokens += len(ids)
            if self._prompt_tokens > _MAX_CACHED_TOKENS:
                self._prompts.clear()
                self._prompt_tokens = len(ids)
            self._prompts[key] = ids
        return ids

    def is_scored(self, moves: Sequence[str]) -> bool:
        """Whether the probability of each of `moves` can be scored: it has one reply, and its prompt is a function of
        the observation alone, not of the way there."""
        return not self.has_history and all(self.reply(move) is not None for move in moves)

    def read(self, reply: tuple[int, ...]) -> str | None:
        """The move in a finished reply, or None; where one reply says a move, no other one is read as it."""
        if reply not in self._moves:
            self._reply_tokens += len(reply)
            if self._reply_tokens > _MAX_CACHED_TOKENS:
                self._moves.clear()
                self._reply_tokens = len(reply)
            move = self._format.read(reply)
            # A tokenizer that merges spells a text in many ways. Exact figures, the anchor and the warm start know one
            # of them, so play must know no other, or they would speak of a policy that does not play.
            said = None if move is None else self.reply(move)
            self._moves[reply] = move if said is None or said == reply else None
        return self._moves[reply]

    def said(self, reply: Sequence[int], decode: Callable[[list[int]], str]) -> str:
        """All that a reply to a question says; `decode` makes text of ids where the format does not."""
        if isinstance(self._format, SpellsReplies):
            return self._format.said(reply)
        return decode(list(reply[:-1] if reply and reply[-1] in self.stop_ids else reply))

    def is_readable(self, reply: Sequence[int]) -> bool:
        """Whether a reply to a question holds an answer in the form that the format asks for."""
        return self._format.read(reply) is not None

    def reply(self, move: str) -> tuple[int, ...] | None:
        """The one reply that says `move`, or None."""
        ids = self._format.reply(move)
        return None if ids is None else tuple(ids)

    def write(self, move: str, thoughts: str = "") -> tuple[int, ...] | None:
        """A finished reply that says `move`: the one that does, or where many do one that gives `thoughts` before it,
        which is None if the format cannot write it."""
        ids = self.reply(move)
        if ids is None and isinstance(self._format, WritesReplies):
            written = self._format.write(move, thoughts)
            return None if written is None else tuple(written)
        return ids

    def legal_replies(self, moves: Sequence[str]) -> tuple[tuple[int, ...], ...] | None:
        """The one reply that says each of `moves`; None if one of them has many."""
        key = tuple(moves)
        if key not in self._legal:
            replies = [self.reply(move) for move in key]
            found = tuple(reply for reply in replies if reply is not None)
            self._legal_tokens += sum(map(len, found))
            if self._legal_tokens > _MAX_CACHED_TOKENS:
                self._legal.clear()
                self._legal_tokens = sum(map(len, found))
            self._legal[key] = found if len(found) == len(key) else None
        return self._legal[key]
