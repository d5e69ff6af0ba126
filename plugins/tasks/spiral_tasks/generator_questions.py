"""Makes questions by a generator of reasoning-gym; in the grading processes alone.

Some generators draw from sets of strings, whose order is that of the process's hash seed: in these processes it is
always the same, so that two runs ask the same questions. And the process that trains imports none of them.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import reasoning_gym
from reasoning_gym.factory import DATASETS

from spiral import SpiralError
from spiral_tasks.generator_names import EXAMPLES
from spiral_tasks.grading.answers import normalised
from spiral_tasks.splits import Split, in_split

_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    list: ((list,), "a list"),
    tuple: ((list,), "a list"),
    Sequence: ((list,), "a list"),
    type(None): ((type(None),), "null"),
}
"""Type of a generator's argument -> those that JSON gives for it, in words. A bool is no whole number here."""
MAX_REPEATS = 1000
"""Questions in a row that were asked before, after which a generator has no more."""


def prepared(generator: str, config: str, size: int, split: Split) -> Callable[[], list[list[Any]]]:
    """What gives `size` distinct questions, each as its index, prompt, gold answer, and itself in a text that
    `spiral_tasks.generator_grades` reads. Raises SpiralError."""
    return functools.partial(list, _questions(generator, config, size, split))


def _questions(generator: str, config: str, size: int, split: Split) -> list[list[Any]]:
    given = json.loads(config)
    # Some make all of their questions at once; with room for repeats, and for those of the other part.
    made = _dataset(generator, {**given, "size": 10 * max(1, size)})
    questions: dict[str, list[Any]] = {}
    index = repeats = 0
    while len(questions) < size:
        try:
            with _explained(generator, given):
                entry = made[index]
            index += 1
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
    made = DATASETS[generator][1]
    types, defaults = get_type_hints(made), {f.name: f.default for f in fields(made)}
    for name, value in config.items():
        if name not in defaults:
            raise _refused(generator, f"it has no '{name}'")
        # By the default too: some are of another type than they are declared to be.
        if type(value) is not type(defaults[name]) and (wanted := _wanted(types[name], value)):
            raise _refused(generator, f"{name} is {json.dumps(value)}, and has to be {wanted}")
    with _explained(generator, config):
        return reasoning_gym.create_dataset(generator, **config)


@contextlib.contextmanager
def _explained(generator: str, config: Mapping[str, Any]) -> Iterator[None]:
    """The generator's own errors as what they are about: its arguments, where some were given."""
    try:
        yield
    except IndexError:  # it has no more questions
        raise
    except Exception as error:
        if config.keys() <= {"seed", "size"}:
            raise
        why = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        raise _refused(generator, why or "it refuses these arguments") from error


def _wanted(annotation: Any, value: Any) -> str | None:
    """In words, what a value of another type than `annotation` has to be; None for one that may do."""
    allowed = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds = [get_origin(one) or one for one in allowed]
    # A type that JSON has no values of is the generator's to judge.
    if any(kind not in _KINDS for kind in kinds) or any(type(value) in _KINDS[kind][0] for kind in kinds):
        return None
    return " or ".join(_KINDS[kind][1] for kind in kinds)


def _refused(generator: str, why: str) -> SpiralError:
    names = (name for name in DATASETS[generator][1].__dataclass_fields__ if name not in ("seed", "size"))
    return SpiralError(f"reasoning_gym/{generator}: {why}; its own arguments are: {', '.join(names) or 'none'}")
