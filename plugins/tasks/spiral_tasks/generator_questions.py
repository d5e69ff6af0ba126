"""Makes questions by a generator of reasoning-gym; in the grading processes alone.

Some generators draw from sets of strings, whose order is that of the process's hash seed: in these processes it is
always the same, so that two runs ask the same questions. And the process that trains imports none of them.
"""

from __future__ import annotations

import base64
import functools
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS

from spiral import SpiralError
from spiral_tasks.generator_names import EXAMPLES
from spiral_tasks.grading.answers import normalised
from spiral_tasks.splits import Split, in_split

MAX_REPEATS = 1000
"""Questions in a row that were asked before, after which a generator has no more."""


def prepared(generator: str, config: str, size: int, split: Split) -> Callable[[], list[list[Any]]]:
    """What gives `size` distinct questions, each as its index, prompt, gold answer, and itself in a text that
    `spiral_tasks.generator_grades` reads. Raises SpiralError."""
    return functools.partial(list, _questions(generator, config, size, split))


def _questions(generator: str, config: str, size: int, split: Split) -> list[list[Any]]:
    # Some make all of their questions at once; with room for repeats, and for those of the other part.
    made = _dataset(generator, {**json.loads(config), "size": 10 * max(1, size)})
    questions: dict[str, list[Any]] = {}
    index = repeats = 0
    while len(questions) < size:
        try:
            entry, index = made[index], index + 1
        except IndexError:
            raise _too_few(generator, len(questions), size) from None
        prompt, gold = str(entry["question"]), _gold(generator, entry)
        key = normalised(prompt)
        if key in questions or not in_split(key, split):
            repeats += 1
            if repeats > MAX_REPEATS:
                raise _too_few(generator, len(questions), size)
            continue
        repeats = 0
        questions[key] = [index - 1, prompt, gold, base64.b64encode(pickle.dumps(entry)).decode("ascii")]
    return list(questions.values())


def _gold(generator: str, entry: Mapping[str, Any]) -> str:
    """The generator's answer, or of one that takes many its example. Raises SpiralError for a question without."""
    answer = entry["metadata"].get(EXAMPLES[generator]) if generator in EXAMPLES else entry["answer"]
    if answer is None or not str(answer).strip():
        raise SpiralError(
            f"reasoning_gym/{generator} gives no answer to a question, so that no reply can be graded by it"
        )
    return json.dumps(answer) if isinstance(answer, dict) else str(answer)


def _too_few(generator: str, num: int, size: int) -> SpiralError:
    return SpiralError(
        f"reasoning_gym/{generator} has {num} distinct questions with these arguments and {size} were asked for; give "
        f"size={num} or less, or harder arguments"
    )


def _dataset(generator: str, config: dict[str, Any]) -> Any:
    if generator not in DATASETS:
        raise SpiralError(f"reasoning-gym has no generator '{generator}'; `spiral plugins reasoning_gym` lists them")
    try:
        return reasoning_gym.create_dataset(generator, **config)
    except (TypeError, AssertionError, ValueError) as error:
        fields = ", ".join(f for f in DATASETS[generator][1].__dataclass_fields__ if f not in ("seed", "size"))
        raise SpiralError(f"reasoning_gym/{generator}: {error}; its own arguments are: {fields or 'none'}") from error
