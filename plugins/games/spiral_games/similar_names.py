"""Suggestions for a name that is not known, for the two families of games; closeness decides, never the alphabet."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def similar_names(name: str, known: Iterable[str], at_most: int = 3) -> list[str]:
    """Known names that hold `name` or begin with it misspelt, best first; empty where nothing is near.

    Case and separators do not count, nor a version such as `-v0` at the end.
    """
    wanted = _letters(name)
    letters = {one: _letters(one) for one in known}
    if not wanted:
        return []
    # The shortest name that holds the word is its plainest form: `kuhn_poker` before a variant of it.
    holding = sorted((one for one in letters if wanted in letters[one]), key=lambda one: len(letters[one]))
    misspelt: list[str] = []
    for close in difflib.get_close_matches(wanted, dict.fromkeys(letters.values()), n=at_most, cutoff=0.7):
        misspelt += [one for one in letters if letters[one] == close]
    return list(dict.fromkeys([*holding, *misspelt]))[:at_most]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"-v\d+", "", name.casefold()))
