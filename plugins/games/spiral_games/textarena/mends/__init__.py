"""Mends of TextArena 0.7.4: environments whose rewards are wrong as shipped, class by class and method by method.

A mend is a function that stands in for one method of one environment's class. It is called with the environment, the
method as shipped and the method's arguments; its docstring says what is wrong and in which line of the class's env.py.
`as_shipped: true` plays without any.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from spiral_games.textarena.mends import boards, cards, puzzles, talk

Mend = Callable[..., Any]

MENDS: Mapping[str, Mapping[str, Mend]] = {**puzzles.MENDS, **boards.MENDS, **cards.MENDS, **talk.MENDS}
"""Class -> method -> what stands in for it."""

__all__ = ["MENDS", "faults", "mended"]


@functools.cache
def mended(environment_class: Any) -> Any:
    """The class with its mends, under the same name; the class itself where there are none."""
    mends = MENDS.get(environment_class.__name__)
    if mends is None:
        return environment_class
    members: dict[str, Any] = {name: _method(mend, getattr(environment_class, name)) for name, mend in mends.items()}
    # Pickle finds a class by module and qualified name; the plain name stays, since lists of moves go by it.
    members["__module__"] = environment_class.__module__
    members["__qualname__"] = f"{environment_class.__name__}Mended"
    made = type(environment_class.__name__, (environment_class,), members)
    setattr(sys.modules[environment_class.__module__], made.__qualname__, made)
    return made


def faults(class_name: str) -> list[str]:
    """What the mends of a class put right, a phrase each; empty where it has none."""
    mends = dict.fromkeys(MENDS.get(class_name, {}).values())  # one fault may need two methods
    return [" ".join((mend.__doc__ or "").split()).rstrip(".") for mend in mends]


def _method(mend: Mend, as_shipped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(as_shipped)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return mend(self, functools.partial(as_shipped, self), *args, **kwargs)

    return method
