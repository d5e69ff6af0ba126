"""Listers of legal moves, for environments whose state tells them exactly; by class, so that every size is covered.

A list is binding: the adapter refuses what is not on it, even where the environment would take it. That bounds
moves that upstream leaves unbounded (bids of liar's dice beyond the number of dice, decimal guesses).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from spiral_games.textarena.legal_moves import boards, cards, numbers, pieces
from spiral_games.textarena.legal_moves.hidden import RESAMPLERS

Lister = Callable[[Any], list[str] | None]
"""Environment during a match -> the current player's legal moves, without brackets, in a fixed order. Empty where the
environment leaves the player no move that it would take; None where there are too many to list."""

LISTERS: Mapping[str, Lister] = {**boards.LISTERS, **pieces.LISTERS, **cards.LISTERS, **numbers.LISTERS}

GIVE_UP = "give up"
"""The move of a player who is left none, and in word games that end only when a player finds no word: the environment
then ends the match as it does for an invalid move."""
CAN_GIVE_UP = frozenset({"WordChainsEnv", "SpellingBeeEnv"})
"""Classes whose players may always give up."""

__all__ = ["CAN_GIVE_UP", "GIVE_UP", "LISTERS", "RESAMPLERS", "Lister", "chosen", "lister"]

_SEPARATORS = re.compile(r"[\s,:;]+")


def lister(environment_class: Any) -> Lister | None:
    """How the moves of an environment are listed; None where they cannot be."""
    return LISTERS.get(environment_class.__name__)


def chosen(move: str, moves: list[str]) -> str | None:
    """The listed move that `move` spells: brackets, case and separators do not matter. None if there is none."""
    if move in moves:
        return move
    wanted = _key(move)
    return next((listed for listed in moves if _key(listed) == wanted), None)


def _key(move: str) -> str:
    move = move.strip()
    if move.startswith("[") and move.endswith("]"):
        move = move[1:-1]
    return _SEPARATORS.sub(" ", move).strip().casefold()
