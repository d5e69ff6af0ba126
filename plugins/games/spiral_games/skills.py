"""The skills that the games ask for, from skills.tsv: judgements of spiral's authors, since TextArena publishes none.

One line a game, or a name of TextArena's with all its variants: skills with their weights, 3 for what decides the game,
1 for what helps, and the reason in a sentence.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib import resources

FILE = "skills.tsv"


@functools.cache
def rows() -> Mapping[str, Mapping[str, float]]:
    """Game -> skill -> weight."""
    lines = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8").splitlines()
    table = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return {line["game"]: {skill: float(weight) for skill, weight in _pairs(line["skills"])} for line in table}


def skills_of(game: str) -> Mapping[str, float]:
    """Of a registered game, or of `textarena/NAME` without its version; nothing of one that is not in the file."""
    return rows().get(game, {})


def _pairs(text: str) -> list[list[str]]:
    return [part.split() for part in text.split(", ")]
