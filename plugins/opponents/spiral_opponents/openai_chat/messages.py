"""Messages of a chat model: the prompt of one decision, the reply in a server's answer, the move in a reply."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from spiral import last_boxed, printable
from spiral_opponents.openai_chat.http import CallFailed, NotProtocol

Style = Literal["boxed", "direct"]

SYSTEM: dict[Style, str] = {
    "boxed": (
        "You are playing a game, and you play to win. Think first if it helps, then end your answer with your move, "
        "exactly as the game writes moves, inside \\boxed{}."
    ),
    "direct": (
        "You are playing a game, and you play to win. Answer with your move alone, exactly as the game writes moves: "
        "no explanation, no quotes."
    ),
}
"""The system prompt of each style. Replies of both styles are read by the same rules."""

SHORT_CHARS = 300
"""A reply up to this long need not mark its move: the last line is it. No move is looked for further from the end."""
MAX_MOVE_CHARS = 4_000
"""Longer text is cut, so that nonsense does not fill records."""


def conversation(style: Style, rules: str, observation: str, moves: Sequence[str] | None) -> list[dict[str, str]]:
    """The messages of one decision. The game's own text is not changed."""
    parts = [part for part in (rules, observation) if part]
    if moves:
        parts.append("Legal moves, one a line:\n" + "\n".join(moves))
    return [{"role": "system", "content": SYSTEM[style]}, {"role": "user", "content": "\n\n".join(parts)}]


def completion(body: bytes) -> dict[str, Any]:
    """The JSON object in a server's answer. Raises NotProtocol if there is none."""
    if not body.strip():
        raise NotProtocol("no reply", "the answer is empty")
    try:
        answer = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotProtocol("not utf-8", f"byte {error.start} of the answer is no UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise NotProtocol("not json", "the answer is " + ("HTML" if body.lstrip()[:1] == b"<" else "broken")) from error
    if not isinstance(answer, dict):
        raise NotProtocol("wrong shape", f"the answer is a JSON {type(answer).__name__}, not an object")
    return answer


def usage(answer: dict[str, Any]) -> tuple[int, int] | None:
    """Tokens of prompt and reply; None where the server gives no sensible counts."""
    counted = answer.get("usage")
    if not isinstance(counted, dict):
        return None
    counts = counted.get("prompt_tokens"), counted.get("completion_tokens")
    return counts if all(type(n) is int and n >= 0 for n in counts) else None  # type: ignore[return-value]


def reply(answer: dict[str, Any]) -> str:
    """The text of a whole reply. Raises CallFailed for a reply that was cut off, withheld, or is not there."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise NotProtocol("wrong shape", "the answer has no list of choices")
    if not choices:
        raise CallFailed("no reply", "the list of choices is empty", answered=True)
    finish, message = choices[0].get("finish_reason"), choices[0].get("message")
    if finish == "length":
        raise CallFailed("cut off", "the reply ran out of tokens; raise max_tokens", again=False, answered=True)
    if finish == "content_filter":
        raise CallFailed("withheld", "the server's content filter took the reply", again=False, answered=True)
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise NotProtocol("wrong shape", "the first choice holds no message with text")
    text = message.get("content") or ""
    if not text.strip():
        raise CallFailed("no reply", "the message is empty", answered=True)
    if re.search("[\ud800-\udfff]", text):  # JSON can say what UTF-8 cannot, and no file or tokenizer would take it
        raise CallFailed("not utf-8", "the message holds half a character", answered=True)
    return text


def complaint(body: bytes, secret: str) -> str:
    """What an error answer says, on one line, without the `secret` that it may repeat."""
    text = body.decode("utf-8", errors="replace")
    try:
        part: Any = json.loads(text)
        # Servers nest it differently: {"error": {"message": ...}}, {"error": ...}, {"message": ...}, {"detail": ...}.
        for key in ("error", "message", "detail"):
            part = part[key] if isinstance(part, dict) and key in part else part
        text = part if isinstance(part, str) else json.dumps(part)
    except (ValueError, RecursionError):
        pass
    return _line(text, secret, 200)


def seen(content_type: str | None, body: bytes, secret: str) -> str:
    """What an answer that is none looks like: its type, and how it begins."""
    what = _line(content_type or "without a type", secret, 60)
    start = _line(body[:500].decode("utf-8", errors="replace"), secret, 60)
    return f"{what}, beginning {start!r}" if start else f"{what}, empty"


def _line(text: str, secret: str, limit: int) -> str:
    """The beginning of a text on one line, without the `secret` that it may repeat."""
    line = " ".join((text.replace(secret, "***") if secret else text).split())
    return printable(line)[:limit]


def move_in(text: str, moves: Sequence[str] | None) -> str:
    """The move that a reply means; if that is none of `moves`, the text in a move's place.

    Looked at is the inside of the last \\boxed{...} after any thinking, else the last line. It is a listed move if it
    equals one, or does but for upper and lower case, or ends by naming one and no other as a whole word.
    """
    answer = text.rpartition("</think>")[2].strip()
    boxed = last_boxed(answer)
    lines = [line for line in map(_bare, answer.splitlines()) if line] or [""]
    words = lines[-1] if boxed is None else _bare(boxed)
    for matches in _meanings(words, moves or ()):
        # A rule decides only where it leaves exactly one move: two are ambiguous.
        if len(matches) == 1:
            return matches[0]
    # In a short reply the last line is the move. A long one that marks no move is returned whole: in a game of free
    # text it is the move, and elsewhere it is illegal and shows why.
    short = boxed is not None or len(answer) <= SHORT_CHARS
    return (words if short else answer)[:MAX_MOVE_CHARS]


def _meanings(words: str, moves: Sequence[str]) -> Iterator[list[str]]:
    """The moves that fit, by ever looser rules."""
    folded = words.casefold()
    yield [move for move in moves if move == words]
    yield [move for move in moves if move.casefold() == folded]
    # Only near the end: earlier text weighs moves against each other. The plain search comes first, because a pattern
    # compiled for each of a game's moves would cost more than all the rest.
    end = max(0, len(folded) - SHORT_CHARS)
    inside = [move.casefold() for move in moves if move and folded.find(move.casefold(), end) >= 0]
    whole = {m for m in inside if re.compile(rf"(?<![\w.-]){re.escape(m)}(?![\w-]|\.\w)").search(folded, end)}
    yield [move for move in moves if move.casefold() in whole]


def _bare(words: str) -> str:
    """Without the quotes and marks that models put around a move."""
    return words.strip().strip("`*\"'“”‘’").strip()
