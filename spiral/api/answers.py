"""Extraction of a final answer from a reply."""

from __future__ import annotations

import re


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` that closes, braces matched and `\text{}` stripped; None without one.

    One pass, since a model that repeats itself may open thousands.
    """
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
