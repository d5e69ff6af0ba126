"""Prompts for language models: what a player is told, how its answer is read, and what of its past it sees."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spiral.api.answers import THOUGHT_END, THOUGHT_START, without_thought
from spiral.api.errors import SpiralError
from spiral.api.games import QUESTION
from spiral.api.records import Turn
from spiral.models.answer_forms import FORMS, Form
from spiral.models.frames import Frame, Template, check_pieces, plain_frame
from spiral.models.thoughts import CLOSED_THOUGHT, ThoughtLimit
from spiral.models.tokens import PlainText, control_tokens, spelt, stop_id

History = Literal["fresh", "transcript"]
WhenFull = Literal["drop", "void"]

_MAX_CACHED_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Wording:
    """What stands around the observation, a paragraph each."""

    opening: str = ""
    """Before everything."""
    observation: str = ""
    """Directly before the rules and the observation."""
    closing: str = ""
    """After everything: how to answer."""
    gap: str = "\n\n"
    """Between paragraphs."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a conversation is held."""

    wording: Wording
    question: Wording
    """Around a question that is no game."""
    form: Form = "boxed"
    exact: bool = False
    """Whether nothing but the answer may be said, so that a move has one reply."""
    rules: bool = True
    moves: bool = False
    history: History = "fresh"
    keep_thoughts: bool = True
    when_full: WhenFull = "drop"
    thought_tokens: int | None = None
    """After so many a thought is closed; None for no limit of its own."""
    thinks: bool = False
    """Whether the model puts its thoughts between marks of its own."""


class ChatFormat:
    """A conversation of the game, as the user, with the player, as the assistant.

    In a transcript each prompt is the last one, the reply to it as it was sampled, and what is new. Of an observation
    that goes on where the last one ended only the new part is told.
    """

    def __init__(self, tokenizer: Any, frame: Frame, style: Style) -> None:
        """Raises SpiralError where the tokenizer's pieces do not make the text."""
        self._tokenizer, self._style, self._strips = tokenizer, style, frame.strips
        plain, tokens, end = PlainText(tokenizer), control_tokens(tokenizer), stop_id(tokenizer)
        check_pieces(tokenizer, frame, plain)
        self._text_ids = functools.lru_cache(_MAX_CACHED_TEXTS)(plain.ids)
        encode = functools.partial(tokenizer.encode, add_special_tokens=False)
        self._start, self._answer, self._again = map(encode, (frame.start, frame.answer, frame.again))
        self._answered = encode(frame.answered)
        self._opens_thought = frame.opens_thought
        self._end = tokens.get(frame.end, end)
        self._after_end = self._again[1:] if self._again[:1] == [self._end] else self._again
        self._control_ids = frozenset(tokens.values())
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys((self._end, end)))
        self.lists_moves = style.moves
        self.has_history = style.history == "transcript"
        self.drops_turns = self.has_history and style.when_full == "drop"
        if style.thought_tokens is not None:
            limit = ThoughtLimit(tokenizer, style.thought_tokens, FORMS[style.form], frame.opens_thought)
            self.continuation, self.min_new_tokens = limit.continuation, limit.min_new_tokens

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> list[int]:
        """Start, then a text of the user and a reply for each of `turns`, then the text that is to be answered."""
        ids, before = [*self._start], None
        for turn in turns:
            ids += self._text_ids(self._told(rules, turn.observation, turn.legal_moves, before))
            ids += self._past(turn.reply)
            before = turn.observation
        ids += self._text_ids(self._told(rules, observation, moves, before))
        return [*ids, *self._answer]

    def said(self, reply: Sequence[int]) -> str:
        """All of a reply but its end; a thought that the prompt opened begins with its mark."""
        body = list(reply[:-1] if reply and reply[-1] in self._ends else reply)
        text = spelt(self._tokenizer, body)
        return f"{THOUGHT_START}{text}" if self._opens_thought else text

    def reply(self, move: str) -> list[int] | None:
        """The answer and its end, where nothing else may be said; None for a move that would be read as another."""
        if not self._style.exact:
            return None
        ids = [*self._text_ids(FORMS[self._style.form].write(move)), self._end]
        return ids if self.read(ids) == move else None

    def write(self, move: str, thoughts: str) -> list[int] | None:
        """Thoughts, the answer and its end, where more than the answer may be said; None for a move that would be read
        as another."""
        if self._style.exact:
            return self.reply(move)
        answer = FORMS[self._style.form].write(move)
        thoughts, marks = thoughts.strip(), functools.partial(self._tokenizer.encode, add_special_tokens=False)
        if self._opens_thought or (thoughts and self._style.thinks):
            # Marks that the tokenizer knows are ids of their own; what was thought is text, whatever it holds.
            opened = [] if self._opens_thought else marks(f"{THOUGHT_START}\n")
            ids = [*opened, *self._text_ids(thoughts), *marks(CLOSED_THOUGHT), *self._text_ids(answer)]
        else:
            ids = [*self._text_ids(f"{thoughts}\n\n{answer}" if thoughts else answer)]
        ids.append(self._end)
        return ids if self.read(ids) == move else None

    def read(self, reply: Sequence[int]) -> str | None:
        """The answer behind any thought, in the form that was asked for."""
        # Whichever special token ended it: a model may have several.
        body = list(reply[:-1] if reply and reply[-1] in self._ends else reply)
        # Special tokens inside stay text: without them `be<|eot|>t` would be read as `bet`.
        text = spelt(self._tokenizer, body)
        answer = without_thought(text, self._opens_thought)
        if answer is None:
            return None
        return FORMS[self._style.form].read(answer if self._style.exact else answer.strip())

    @property
    def _ends(self) -> frozenset[int]:
        return self._control_ids.union(self.stop_ids)

    def _told(self, rules: str, observation: str, moves: Sequence[str] | None, before: str | None) -> str:
        """The text of the user for one decision; `before`: the player's last observation, None for the first."""
        text = _text(self._style, rules, observation, moves, before)
        return text.strip() if self._strips else text

    def _past(self, reply: tuple[int, ...]) -> list[int]:
        """A reply that stands in the history, and what leads from it to the next text of the user."""
        if self._style.keep_thoughts:
            before, kept = self._answer, reply
        else:
            before, kept = self._answered, reply[self._thought_length(reply) :]
        # The end that was sampled is the end; one that was not, since the reply was cut, is written.
        return [*before, *kept, *(self._after_end if kept[-1:] == (self._end,) else self._again)]

    def _thought_length(self, reply: tuple[int, ...]) -> int:
        """How many ids come before the answer; 0 without a thought."""
        decode = functools.partial(self._tokenizer.decode, skip_special_tokens=False)
        num = str(decode(list(reply))).count(THOUGHT_END)
        low, high = 0, len(reply) if num else 0
        while low < high:
            middle = (low + high) // 2
            enough = str(decode(list(reply[:middle]))).count(THOUGHT_END) >= num
            low, high = (low, middle) if enough else (middle + 1, high)
        return low


def _text(style: Style, rules: str, observation: str, moves: Sequence[str] | None, before: str | None = None) -> str:
    wording, new = style.wording, observation
    if rules == QUESTION:  # the words around it say that it is one
        wording, rules = style.question, ""
    if before is not None and observation.startswith(before):
        # All that was seen before stands in the transcript; a decision that is asked again is told again.
        new = observation[len(before) :] or observation
    shown = f"{rules}\n\n{new}" if style.rules and rules and before is None else new
    listed = "Legal moves, one a line:\n" + "\n".join(moves) if moves else ""
    first = before is None
    parts = [wording.opening if first else "", f"{wording.observation}{shown}", listed]
    return wording.gap.join(part for part in (*parts, wording.closing if first else "") if part)


def decision(rules: str, observation: str, moves: Sequence[str] | None, reasons: bool) -> str:
    """What `chat` says for a player's first decision, as a message for any chat template. `moves`: those to list;
    `reasons`: whether reasoning is asked for before the boxed move."""
    style = Style(Wording(closing=_how("boxed", reasons)), Wording(closing=_how_questions("boxed", reasons)))
    return _text(style, rules, observation, moves)


def boxed(move: str) -> str:
    """The answer that `decision` asks for."""
    return FORMS["boxed"].write(move)


def chat(
    tokenizer: Any,
    system: str | None = None,
    rules: bool = True,
    moves: bool = False,
    answer: Form = "boxed",
    reason: bool | None = None,
    thinking: bool | None = None,
    thought_tokens: int | None = None,
    history: History = "fresh",
    keep_thoughts: bool = True,
    when_full: WhenFull = "drop",
    template: bool = True,
    date: str = "2025-01-01",
) -> ChatFormat:
    """The tokenizer's chat template around rules, observation and how to answer; plain User and Assistant without one.

    `system`: a text of your own, else the template's. `rules`, `moves`: tell the game's rules, list the legal moves.
    `answer`: the form of the move; `reason`: ask for reasoning before it, by default unless `answer` is plain.
    `thinking`: turn the template's thoughts on or off. `thought_tokens`: after so many a thought, or reasoning without
    an answer, is closed, and the answer follows. `history`: each decision by itself, or the player's whole transcript,
    with its thoughts or without (`keep_thoughts`); `when_full`: its oldest turns leave a full context, or the game is
    voided. `template`: false for plain text whatever the tokenizer has. `date`: what a template that writes today's
    date is told.
    """
    if history == "fresh" and not (keep_thoughts and when_full == "drop"):
        raise SpiralError(
            "prompt chat was asked what to do with earlier turns (keep_thoughts, when_full), and shows none; set "
            "history=transcript, or leave those out"
        )
    reasons = answer != "plain" if reason is None else reason
    if reasons and answer == "plain":
        raise SpiralError("prompt chat cannot tell reasoning from a plain answer; set answer=boxed, or reason=false")
    has_template = template and getattr(tokenizer, "chat_template", None) is not None
    if has_template:
        made = Template(tokenizer, system, thinking, date)
        frame, may_think = made.frame(history == "transcript"), made.can_think and thinking is not False
    elif thinking is not None:
        raise SpiralError("prompt chat cannot turn thinking on or off without a chat template; leave thinking out")
    else:
        frame, may_think = plain_frame(tokenizer, system), False
    exact = not (reasons or may_think or frame.opens_thought)
    if exact and thought_tokens is not None:
        raise SpiralError(
            f"prompt chat was asked for thought_tokens={thought_tokens}, and lets nothing but the move be said; set "
            "reason=true, or thinking=true where the template has thoughts, or leave thought_tokens out"
        )
    wording, question = Wording(closing=_how(answer, reasons)), Wording(closing=_how_questions(answer, reasons))
    return ChatFormat(
        tokenizer,
        frame,
        Style(
            wording, question, answer, exact, rules, moves, history, keep_thoughts, when_full, thought_tokens, may_think
        ),
    )


def _how(form: Form, reasons: bool) -> str:
    if reasons:
        return f"Reason step by step, then give your final move {FORMS[form].told}, exactly as the game writes moves."
    if form == "plain":
        return "Answer with your move alone, exactly as the game writes moves."
    return f"Answer with your move {FORMS[form].told}, exactly as the game writes moves, and nothing else."


def _how_questions(form: Form, reasons: bool) -> str:
    told = FORMS[form].told or "alone"
    return f"Reason step by step, then give your final answer {told}." if reasons else f"Give your answer {told}."
