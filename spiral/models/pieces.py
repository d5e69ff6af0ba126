"""What each id of a reply adds to its text: for pages that show a reply token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MAX_HELD = 4
"""Ids that may be of one character: UTF-8 has four bytes at the most, and no tokenizer less than one a token."""
UNKNOWN = "\ufffd"
"""What a tokenizer writes for bytes that are no whole character."""


def pieces(ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[str]:
    """The text of each id, in order; empty for an id that begins a character which a later one completes.

    Together they are what `decode` says of all ids, for tokenizers whose text of an id depends on the one before at the
    most. Each id is decoded with those before it that were told last, and not with all, which would take the square of
    the length.
    """
    found: list[str] = []
    start = told = 0
    for end in range(1, len(ids) + 1):
        before, now = decode(list(ids[start:told])), decode(list(ids[start:end]))
        if now.endswith(UNKNOWN) and end - told < MAX_HELD and end < len(ids):
            found.append("")
            continue
        found.append(now[len(before) :])
        start, told = told, end
    return found
