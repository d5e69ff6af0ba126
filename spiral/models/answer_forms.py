"""The forms in which a language model is asked for its move: how each is told, written and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spiral.api.answers import last_boxed, last_bracketed, last_tagged

Form = Literal["boxed", "brackets", "tags", "plain"]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """One form; `plain` is the move alone."""

    told: str
    """How it is asked for."""
    opener: str
    """Directly before a move."""
    closer: str
    """Directly behind it."""
    read: Callable[[str], str | None]
    """The answer in a text, or None."""

    def write(self, move: str) -> str:
        """A move in this form."""
        return f"{self.opener}{move}{self.closer}"

    def is_begun(self, text: str) -> bool:
        """Whether a text holds an answer, or ends inside of one."""
        _, opened, rest = text.rpartition(self.opener) if self.opener else ("", "", "")
        return self.read(text) is not None or (bool(opened) and self.closer not in rest)


FORMS: dict[Form, AnswerForm] = {
    "boxed": AnswerForm(r"within \boxed{}", r"\boxed{", "}", last_boxed),
    "brackets": AnswerForm("within square brackets, like [move]", "[", "]", last_bracketed),
    "tags": AnswerForm("between <answer> and </answer>", "<answer>", "</answer>", last_tagged),
    "plain": AnswerForm("", "", "", lambda text: text or None),
}
