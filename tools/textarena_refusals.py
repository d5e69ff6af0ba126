"""Whether an environment of TextArena changes when it refuses a move, for tools.textarena_measure.

Where it does, the adapter keeps a copy before every move; elsewhere it puts back what it knows to change.
"""

from __future__ import annotations

import copy
import inspect
import random
import re
import time
from collections.abc import Mapping
from typing import Any

from spiral_games.textarena import TextArenaGame, importing
from spiral_games.textarena.catalogue import Row

from spiral.api.games import IllegalMove

JUNK = (
    "",
    "zzz",
    "x]",
    "[zzz]",
    "[-1]",
    "[99]",
    "[99 99]",
    "[99, 99]",
    "[a9 b9]",
    "[a1 a1]",
    "[0]",
    "[0 0]",
    "[accept]",
)
ENOUGH = 20
"""Refused moves that must leave no trace before no copies are kept."""


def changes_when_refused(row: Row, seconds: float) -> bool:
    """Whether a refused move may show: tried in random games, on an adapter that takes no copies.

    Also True where hardly any move was refused, since that proves nothing.
    """
    module = inspect.getmodule(importing.environment_class(row.env_id))
    if module is not None and "set_invalid_move" not in inspect.getsource(module):
        return False  # it refuses nothing
    begun, seed, refusals = time.process_time(), 0, 0
    seen: list[str] = []
    while time.process_time() - begun < seconds and seed < 30:
        rng = random.Random(seed)
        game = TextArenaGame(row.env_id)
        game.reset(random.Random(seed))
        seed += 1
        while game.current_player() is not None and time.process_time() - begun < seconds:
            if game.legal_moves() is not None:
                return False  # only what is legal reaches the environment
            legal_move = game.sample_move(rng)
            seen.append(legal_move)
            for move in likely_refused(game, row, legal_move, seen, rng):
                shows = refusal_shows(game, move)
                if shows:
                    return True
                refusals += shows is not None
            game.play(legal_move)
    return refusals < ENOUGH


def likely_refused(game: TextArenaGame, row: Row, legal_move: str, seen: list[str], rng: random.Random) -> list[str]:
    """Nonsense, moves of other positions, a move with more behind it, and words on display."""
    marked = [f"[{m}]" if row.brackets and "[" not in m else m for m in rng.sample(seen, min(3, len(seen)))]
    words = re.findall(r"\w+", game.observe(game.current_player() or 0)[-600:]) or ["word"]
    shown = rng.sample(words, min(3, len(words)))
    return [*rng.sample(JUNK, 4), *marked, marked[0] + " [zzz]", "".join(marked), *shown, " ".join(words)]


def refusal_shows(game: TextArenaGame, move: str) -> bool | None:
    """Whether anything is left of a refused move; None if it was taken."""
    spare = copy.deepcopy(game)
    before = picture((vars(spare._env), spare._chance.random.getstate()))
    try:
        spare.play(move)
    except IllegalMove:
        return bool(before != picture((vars(spare._env), spare._chance.random.getstate())))
    return None


def picture(thing: Any, depth: int = 0) -> Any:
    """All that can be compared of an object, as nested tuples."""
    if depth > 12 or isinstance(thing, str | int | float | bool | None):
        return thing
    if isinstance(thing, Mapping):
        return tuple((picture(k, depth + 1), picture(v, depth + 1)) for k, v in thing.items())
    if isinstance(thing, set | frozenset):
        return ("set", *sorted(map(repr, thing)))
    if isinstance(thing, list | tuple):
        return tuple(picture(part, depth + 1) for part in thing)
    if type(thing).__name__ == "EnglishDictionary" or callable(thing):
        return type(thing).__name__
    if hasattr(thing, "tolist"):
        return picture(thing.tolist(), depth + 1)
    if hasattr(thing, "__dict__"):
        return (type(thing).__name__, picture(vars(thing), depth + 1))
    return (type(thing).__name__, *(map(repr, thing) if hasattr(thing, "__iter__") else ()))
