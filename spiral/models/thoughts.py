"""A limit on what a model says before its answer: after so many tokens its thought is closed for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spiral.api.answers import THOUGHT_END, without_thought
from spiral.api.errors import SpiralError
from spiral.api.records import Continuation
from spiral.models.answer_forms import AnswerForm
from spiral.models.tokens import spelt

CLOSED_THOUGHT = f"\n{THOUGHT_END}\n\n"
"""Behind a thought between marks of its own; the answer is the model's."""
BEGUN_ANSWER = "\n\nAnswer: "
"""Behind reasoning that has no marks, and before the beginning of the answer in its form: nothing less tells the model
that no more reasoning follows."""
SHORTEST_ANSWER = 2
"""Tokens: of a move, and the end."""


class ThoughtLimit:
    """Lets replies go on as `spiral.api.training.PromptFormat.continuation` does."""

    def __init__(self, tokenizer: Any, num_tokens: int, form: AnswerForm, opened: bool) -> None:
        """`num_tokens`: of a reply, before its thought is closed. `opened`: replies begin inside a thought.

        Raises SpiralError if there is no such number, or the tokenizer does not spell what closes a thought.
        """
        if num_tokens < 1:
            raise SpiralError(f"prompt chat was asked for thought_tokens={num_tokens}; give 1 or more, or leave it out")
        self._tokenizer, self._num_tokens, self._form, self._opened = tokenizer, num_tokens, form, opened
        self._closed = self._ids(CLOSED_THOUGHT)
        self._begun = self._ids(f"{BEGUN_ANSWER}{form.opener}") if form.opener else ()
        self.min_new_tokens = num_tokens + max(len(self._closed), len(self._begun)) + SHORTEST_ANSWER

    def continuation(self, reply: Sequence[int]) -> Continuation:
        """What follows the ids of a reply, none of which ended it."""
        if len(reply) < self._num_tokens:
            return Continuation(num_tokens=self._num_tokens - len(reply))
        return Continuation(self._closing(spelt(self._tokenizer, reply)))

    def _closing(self, text: str) -> tuple[int, ...]:
        # By the text and not by ids: a thought's end may be one id or several, in any spelling that the model samples.
        answer = without_thought(text, self._opened)
        if answer is None:
            return self._closed
        # A reply that closed its thought, or wrote an answer, is at it; a plain answer has nothing that could begin it.
        if THOUGHT_END in text or self._form.is_begun(answer):
            return ()
        return self._begun

    def _ids(self, text: str) -> tuple[int, ...]:
        ids = tuple(self._tokenizer.encode(text, add_special_tokens=False))
        if (said := spelt(self._tokenizer, ids)) != text:
            raise SpiralError(
                f"the tokenizer spells {text!r}, which closes a thought, as {said!r}, so thoughts cannot be "
                "limited; leave prompt.args.thought_tokens out, or use another tokenizer"
            )
        return ids
