"""How a broken promise is found and said: the runner of checks, and what turns exceptions into sentences."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Check = Callable[[], Iterable[str] | None]
"""Gives broken promises, or raises one as `Broken`, or is silent."""


class Broken(Exception):
    """A promise that does not hold; the message is the sentence for the plug-in's author."""


def findings(*stages: Sequence[Check]) -> list[str]:
    """The broken promises of the first stage that has any: later stages rely on what earlier ones found.

    The global generators are seeded for the time being, so that what a plug-in wrongly draws from them is the same
    in every run of the kit.
    """
    with global_chance() as chance:
        for stage in stages:
            found: list[str] = []
            for check in stage:
                chance(0)
                try:
                    found += check() or ()
                except Broken as broken:
                    found.append(str(broken))
            if found:
                return list(dict.fromkeys(found))
    return []


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Turn any exception of a plug-in into a broken promise that names what was being done."""
    try:
        yield
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"{what} raised {type(error).__name__}: {error}") from error


def short(value: object, limit: int = 70) -> str:
    """The repr of a value, cut in the middle."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


@contextmanager
def global_chance() -> Iterator[Callable[[int], None]]:
    """Yields a function that seeds the global generators; puts them back as they were afterwards."""
    numpy: Any = sys.modules.get("numpy")  # never imported here: only a game that uses it needs it watched
    before = random.getstate(), numpy.random.get_state() if numpy else None

    def seed(number: int) -> None:
        random.seed(number)
        if numpy:
            numpy.random.seed(number)

    try:
        yield seed
    finally:
        random.setstate(before[0])
        if numpy:
            numpy.random.set_state(before[1])


def is_finite(value: object) -> bool:
    """Whether a value is a finite number, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
