"""The text of a conversation around what is said in it: from a tokenizer's chat template, or written out.

A template is rendered once, with marks in place of what is said, and cut at the marks. What players say is then put
between the pieces as ids, so that it is never searched for special tokens and nothing is encoded twice.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spiral.api.answers import THOUGHT_START
from spiral.api.errors import SpiralError
from spiral.models.tokens import PlainText, control_tokens, spelt

NEEDED_SYSTEM = "You are a player of games."
"""The system text where a template demands one and none was given."""
_MARKS = tuple(f"\x00said {n}\x00" for n in range(5))


@dataclass(frozen=True, slots=True)
class Frame:
    """Pieces of text; special tokens are written by their names."""

    start: str
    """Before the first text of the user."""
    answer: str
    """Between a text of the user and the reply that is asked for."""
    again: str = ""
    """Between a reply and the next text of the user, the end of the reply included; empty where nothing follows."""
    end: str = ""
    """The special token that ends a reply; empty where the tokenizer's end of sequence alone does."""
    answered: str = ""
    """As `answer`, where the reply is a past one whose thoughts were left out."""
    strips: bool = False
    """Whether white space around a text of the user is left out."""

    @property
    def opens_thought(self) -> bool:
        """Whether a reply begins inside a thought."""
        return self.answer.rstrip().endswith(THOUGHT_START)


def plain_frame(tokenizer: Any, system: str | None = None, opener: str = "") -> Frame:
    """`User:` and `Assistant:` in plain text, for models without a chat template."""
    start = tokenizer.bos_token if getattr(tokenizer, "bos_token", None) else ""
    told = f"{system}\n\n" if system else ""
    return Frame(f"{start}{told}User: ", f"\nAssistant:{opener}", "\nUser: ", answered="\nAssistant:")


class Template:
    """A tokenizer's chat template with its free arguments fixed."""

    def __init__(self, tokenizer: Any, system: str | None, thinking: bool | None, date: str) -> None:
        """`date`: what a template that asks for today is told, YYYY-MM-DD, or scores would change from day to day.

        Raises SpiralError for a template that cannot be rendered, or that does not do what was asked.
        """
        self._tokenizer, self._date = tokenizer, _date(date)
        self._thinking, self._folded = thinking, False
        self._system, self._folded = self._choose_system(system)
        on, off = (self._render([_MARKS[0]], self._system, switch) for switch in (True, False))
        self.can_think = on != off
        text = self._render([_MARKS[0]], self._system, thinking)
        if text is None:
            raise SpiralError(
                "the tokenizer's chat template renders no conversation that begins with a user's text: "
                f"{self._problem([_MARKS[0]])}; mend the template, or set prompt.args.template=false"
            )
        self._start, self._answer = _cut(text, 1)
        if thinking and not (self.can_think or self._answer.rstrip().endswith(THOUGHT_START)):
            raise _no_switch(thinking)
        if thinking is False and not self.can_think:
            raise _no_switch(thinking)

    def frame(self, transcript: bool) -> Frame:
        """The frame of one reply, or of any number. Raises SpiralError naming what breaks a transcript."""
        padded = self._render([f" {_MARKS[0]} "], self._system, self._thinking) or ""
        found = Frame(self._start, self._answer, end=self._end(), strips=f" {_MARKS[0]} " not in padded)
        return self._with_history(found) if transcript else found

    def _with_history(self, found: Frame) -> Frame:
        text = self._render(_MARKS, self._system, self._thinking)
        if text is None:
            raise _unsafe(f"it renders no conversation of several turns ({self._problem(_MARKS)})")
        start, answered, again, *rest = _cut(text, 5)
        if start != self._start:
            raise _unsafe(
                f"the beginning {self._start!r} of a chat becomes {start!r} once there is a second turn, so that no "
                "later prompt begins with an earlier one"
            )
        if rest != [answered, again, self._answer]:
            raise _unsafe(f"it puts {[answered, again]!r} around the first reply and {rest!r} around later ones")
        # A block of thought that the template opens or closes for the next reply alone may stay where it was.
        thought = self._answer.removeprefix(answered)
        if thought and (thought == self._answer or THOUGHT_START not in thought):
            raise _unsafe(f"it asks for a reply with {self._answer!r} and shows a past one behind {answered!r}")
        return replace(found, again=again, answered=answered)

    def _end(self) -> str:
        """The special token behind a reply."""
        text = self._render(_MARKS[:2], self._system, self._thinking, ask=False) or ""
        behind = text.partition(_MARKS[1])[2].lstrip()
        names = [name for name in control_tokens(self._tokenizer) if behind.startswith(name)]
        return max(names, key=len, default="")

    def _choose_system(self, system: str | None) -> tuple[str | None, bool]:
        """The system text as the template takes it, and whether it goes before the first text of the user."""
        text = self._render([_MARKS[0]], system, self._thinking)
        if system is None:
            return (None if text is not None else NEEDED_SYSTEM), False
        # Some templates refuse a system text, and some leave it out without a word.
        return system, text is None or system.strip() not in text

    def _render(self, said: Sequence[str], system: str | None, thinking: bool | None, ask: bool = True) -> str | None:
        """The conversation as text; None if the template refuses it."""
        try:
            return self._rendered(said, system, thinking, ask)
        except Exception:  # whatever a template raises, which may be anything
            return None

    def _rendered(self, said: Sequence[str], system: str | None, thinking: bool | None, ask: bool) -> str:
        folded = bool(system) and self._folded
        texts = [f"{system}\n\n{said[0]}", *said[1:]] if folded else list(said)
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
        if system is not None and not folded:
            messages.insert(0, {"role": "system", "content": system})
        switch = {} if thinking is None else {"enable_thinking": thinking}
        today: Callable[[str], str] = self._date.strftime
        # In place of the clock that transformers gives to templates.
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask, strftime_now=today, **switch
            )
        )

    def _problem(self, said: Sequence[str]) -> str:
        try:
            self._rendered(said, self._system, self._thinking, True)
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        return "it gave no text"


def check_pieces(tokenizer: Any, frame: Frame, plain: PlainText) -> None:
    """Raise SpiralError if the ids of the pieces, one after another, do not spell the whole text: some tokenizers put a
    space before all that they are given, or write other letters."""
    said, reply = "Board: a1 b2", "c3"
    pieces = (frame.start, said, frame.answer, reply, frame.again, said, frame.answer)
    ids: list[int] = []
    for number, piece in enumerate(pieces):
        ids += plain.ids(piece) if number in (1, 3, 5) else tokenizer.encode(piece, add_special_tokens=False)
    text = spelt(tokenizer, ids)
    if text != "".join(pieces):
        raise SpiralError(
            f"the tokenizer spells the pieces of a prompt as {text!r} where {''.join(pieces)!r} was meant, so a "
            "prompt cannot be built from ids; use another tokenizer, or one with its prefix space and its "
            "normaliser turned off"
        )


def _cut(text: str, num: int) -> list[str]:
    """`text` cut at the first `num` marks, each of which must stand in it once, in order."""
    pieces = []
    for mark in _MARKS[:num]:
        if text.count(mark) != 1:
            raise SpiralError(
                "the tokenizer's chat template does not write what is said once and as it stands, so a prompt cannot "
                "be put together from ids; mend the template, or set prompt.args.template=false"
            )
        before, _, text = text.partition(mark)
        pieces.append(before)
    return [*pieces, text]


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise SpiralError(f"prompt date {text!r} is no date; write it as 2025-01-31") from None


def _no_switch(thinking: bool) -> SpiralError:
    asked = "on" if thinking else "off"
    return SpiralError(
        f"thinking was to be turned {asked}, and the tokenizer's chat template has no switch for it (enable_thinking); "
        "leave prompt.args.thinking out"
    )


def _unsafe(what: str) -> SpiralError:
    return SpiralError(
        f"the tokenizer's chat template keeps no transcript: {what}; set prompt.args.history=fresh, mend the template, "
        "or set prompt.args.template=false"
    )
