"""Which names a player may have: letters that are read as they look, in one spelling."""

from __future__ import annotations

import re
import unicodedata

from spiral.api.errors import SpiralError

_NAME = re.compile(r"[^\W_][\w .'-]{0,30}[\w.)]|[^\W_]", re.UNICODE)


def checked_name(name: object) -> str:
    """The name in its composed form (NFKC), so that two that look alike by their width or accents are one. Raises
    SpiralError for one with markup, control characters, marks that turn the direction of writing, or too long."""
    composed = unicodedata.normalize("NFKC", name) if isinstance(name, str) and len(name) <= 200 else ""
    if not _NAME.fullmatch(composed):
        raise SpiralError("a name has 1 to 32 letters, digits, spaces and .'-, and begins with a letter")
    return composed
