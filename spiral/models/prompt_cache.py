"""A cache in front of a prompt format: games say the same things again and again, and encoding text is slow."""

from __future__ import annotations

from spiral.api.training import PromptFormat

_MAX_CACHED_TOKENS = 4_000_000
"""Tokens of prompts, and of replies, that are remembered: about 40 bytes each."""


class Prompter:
    """A prompt format that remembers what it encoded and read."""

    def __init__(self, prompt_format: PromptFormat) -> None:
        self._format = prompt_format
        self.stop_ids = prompt_format.stop_ids
        self._prompts: dict[tuple[str, str], tuple[int, ...]] = {}
        self._moves: dict[tuple[int, ...], str | None] = {}
        self._prompt_tokens = self._reply_tokens = 0

    def encode(self, rules: str, observation: str) -> tuple[int, ...]:
        """Prompt ids for a decision."""
        key = (rules, observation)
        ids = self._prompts.get(key)
        if ids is None:
            ids = tuple(self._format.encode(rules, observation))
            self._prompt_tokens += len(ids)
            if self._prompt_tokens > _MAX_CACHED_TOKENS:
                self._prompts.clear()
                self._prompt_tokens = len(ids)
            self._prompts[key] = ids
        return ids

    def read(self, reply: tuple[int, ...]) -> str | None:
        """The move in a finished reply, or None."""
        if reply not in self._moves:
            self._reply_tokens += len(reply)
            if self._reply_tokens > _MAX_CACHED_TOKENS:
                self._moves.clear()
                self._reply_tokens = len(reply)
            self._moves[reply] = self._format.read(reply)
        return self._moves[reply]

    def reply(self, move: str) -> tuple[int, ...] | None:
        """The one reply that says `move`, or None."""
        ids = self._format.reply(move)
        return None if ids is None else tuple(ids)
