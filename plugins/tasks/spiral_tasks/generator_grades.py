"""Scores an answer by the generator of reasoning-gym that made the question; in the grading processes alone.

Several of them give the answer to Python's `eval`, which the process refuses all means to do harm, and which is
replaced by one of literals where that is all that they need.
"""

from __future__ import annotations

import ast
import base64
import functools
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import reasoning_gym

_LITERALS = ("string_insertion", "spiral_matrix", "binary_matrix", "n_queens")
"""Modules that evaluate an answer which is a list."""


def prepared(generator: str, config: str, entry: str, answer: str) -> Callable[[], float]:
    """What scores an answer from 0 to 1, as the generator says. `entry`: its question, with all that it needs to score,
    pickled by the parent of this process, which made it."""
    dataset, question = _dataset(generator, config), _entry(entry)
    return lambda: min(1.0, max(0.0, float(dataset.score_answer(answer, question))))


@functools.lru_cache(maxsize=64)
def _dataset(generator: str, config: str) -> Any:
    made = reasoning_gym.create_dataset(generator, **json.loads(config))
    for name, module in list(sys.modules.items()):
        if name.startswith("reasoning_gym.") and name.rpartition(".")[2] in _LITERALS:
            module.eval = ast.literal_eval  # type: ignore[attr-defined]
    return made


@functools.lru_cache(maxsize=4096)
def _entry(entry: str) -> Any:
    return pickle.loads(base64.b64decode(entry))
