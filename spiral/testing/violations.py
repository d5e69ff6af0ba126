"""Defines `Violation` and `Notice`, runs the checks of the kit, and turns a plug-in's exceptions into violations."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Check = Callable[[], Iterable[str] | None]
"""Returns the texts of violations, or raises one as `Violation`, or returns None."""


class Violation(Exception):
    """A plug-in does not keep its contract. The message is one sentence for its author: what was asked, what the
    plug-in did, and the remedy."""


class Notice(UserWarning):
    """Something that may be meant as it is, which the author alone can say: a warning, and no violation. The message
    is one sentence: what was seen, and the declaration that settles it."""


def run_checks(*stages: Sequence[Check]) -> list[str]:
    """The violations of the first stage that has any, without duplicates; [] if all checks of all stages pass.

    A later stage relies on what the earlier ones checked, so its violations would only repeat theirs.
    """
    with global_generators() as seed_globals:
        for stage in stages:
            violations: list[str] = []
            for check in stage:
                # Whatever a plug-in wrongly draws from the global generators is then the same in every run of the kit.
                seed_globals(0)
                try:
                    violations += check() or ()
                except Violation as violation:
                    violations.append(str(violation))
            if violations:
                return list(dict.fromkeys(violations))
    return []


@contextmanager
def doing(action: str) -> Iterator[None]:
    """Turn any exception that the body raises into a violation that names the action. A Violation passes unchanged."""
    try:
        yield
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"{action} raised {type(error).__name__}: {error}") from error


def short(value: object, limit: int = 70) -> str:
    """The repr of a value, cut in the middle to about `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


@contextmanager
def global_generators() -> Iterator[Callable[[int], None]]:
    """Yields a function that seeds the global generators of random and numpy; restores their states at the end."""
    numpy: Any = sys.modules.get("numpy")  # not imported here: if no plug-in has imported it, none draws from it
    before = random.getstate(), numpy.random.get_state() if numpy else None

    def seed_globals(number: int) -> None:
        random.seed(number)
        if numpy:
            numpy.random.seed(number)

    try:
        yield seed_globals
    finally:
        random.setstate(before[0])
        if numpy:
            numpy.random.set_state(before[1])


def is_finite(value: object) -> bool:
    """Whether a value is a finite int or float; False for a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
