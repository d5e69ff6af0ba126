"""Extraction of a final answer from a reply: pure functions, each one pass over the text.

A model that repeats itself may open thousands of boxes and close none, so no function searches the same text twice.
"""

from __future__ import annotations

import re

THOUGHT_END = "</think>"
THOUGHT_START = "<think>"


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` that closes, braces matched and `\text{}` stripped; None without one."""
    starts = {match.end() - 1 for match in re.finditer(r"\\boxed\s*\{", text)}
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for place, character in enumerate(text):
        if character == "{":
            opened.append(place)
        elif character == "}" and opened:
            start = opened.pop()
            if start in starts and (last is None or start > last[0]):
                last = start, place
    if last is None:
        return None
    inside = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text[last[0] + 1 : last[1]]).strip()
    return inside or None


def last_bracketed(text: str) -> str | None:
    """The content of the `[...]` that closes last, brackets inside it matched; None without one, or for an empty one.

    `[[0 1]]` says `[0 1]`, a move that has brackets of its own.
    """
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for place, character in enumerate(text):
        if character == "[":
            opened.append(place)
        elif character == "]" and opened:
            last = opened.pop(), place
    return None if last is None else text[last[0] + 1 : last[1]].strip() or None


def last_tagged(text: str) -> str | None:
    """The content of the last `<answer>...</answer>` that closes; None without one, or for an empty one."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return None if end < 0 or start < 0 else text[start + len("<answer>") : end].strip() or None


def thoughts_before(text: str, move: str) -> str:
    """What a reply says before the answer that is `move`, without the marks of a thought; all of it without one."""
    said = re.escape(move)
    for form in (rf"\\boxed\s*\{{\s*(?:\\text\s*\{{)?\s*{said}", rf"<answer>\s*{said}", rf"\[\s*{said}\s*\]", said):
        if found := [match.start() for match in re.finditer(form, text)]:
            text = text[: found[-1]]
            break
    return text.replace(THOUGHT_START, "").replace(THOUGHT_END, "").strip()


def without_thought(text: str, opened: bool = False) -> str | None:
    """What follows the last `</think>`; the whole text where there is no thought; None for a thought that has no end.

    `opened`: the prompt ends with `<think>` already. What a thought tries out is no answer.
    """
    _, end, answer = text.rpartition(THOUGHT_END)
    if THOUGHT_START in answer or (opened and not end):
        return None
    return answer
