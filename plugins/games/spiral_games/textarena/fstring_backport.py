"""Rewrites f-strings that only Python 3.12 and later can read (PEP 701) for 3.11.

Since 3.12 an expression inside an f-string may contain the quote that the string is written with. Where it does, the
delimiters are tripled, which 3.11 accepts and which changes nothing else: `f'{d['k']}'` becomes `f'''{d['k']}'''`.
"""

from __future__ import annotations

import re

_STRING = re.compile(r"(?P<prefix>[A-Za-z]{0,2})(?P<quote>\"\"\"|'''|\"|')")


def for_python_311(source: str) -> str:
    """The same program, with every f-string that contains its own quote in a triple quote."""
    out: list[str] = []
    at = 0
    while at < len(source):
        if source[at] == "#":
            end = source.find("\n", at)
            end = len(source) if end < 0 else end
            out.append(source[at:end])
            at = end
            continue
        match = _STRING.match(source, at)
        if match and not (at and (source[at - 1].isalnum() or source[at - 1] == "_")):
            text, at = _string(source, match)
            out.append(text)
        else:
            out.append(source[at])
            at += 1
    return "".join(out)


def _string(source: str, match: re.Match[str]) -> tuple[str, int]:
    """(the literal that begins at `match`, rewritten; where it ends)."""
    prefix, quote = match["prefix"], match["quote"]
    body: list[str] = []
    at, reused = match.end(), False
    formatted = "f" in prefix.lower()
    while not source.startswith(quote, at):
        if source[at] == "\\" or (formatted and source[at : at + 2] in ("{{", "}}")):
            body.append(source[at : at + 2])
            at += 2
        elif formatted and source[at] == "{":
            field, at = _field(source, at)
            reused = reused or quote in field
            body.append(field)
        else:
            body.append(source[at])
            at += 1
    delimiter = quote * 3 if reused and len(quote) == 1 else quote
    return f"{prefix}{delimiter}{''.join(body)}{delimiter}", at + len(quote)


def _field(source: str, at: int) -> tuple[str, int]:
    """(the replacement field that begins at the brace at `at`, strings in it rewritten; where it ends)."""
    out, depth = [], 0
    while True:
        match = _STRING.match(source, at)
        if match and not (source[at - 1].isalnum() or source[at - 1] == "_"):
            text, at = _string(source, match)
            out.append(text)
            continue
        depth += {"{": 1, "}": -1}.get(source[at], 0)
        out.append(source[at])
        at += 1
        if depth == 0:
            return "".join(out), at
