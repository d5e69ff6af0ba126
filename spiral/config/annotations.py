"""Whether a value of a config file fits an annotation; unknown annotations admit everything."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal


def type_mismatch(value: Any, hint: Any) -> str | None:
    """What is wrong with `value`, such as "is 'abc', not a float"; None when it fits."""
    if _fits(value, hint):
        return None
    return f"is {value!r}, not {_say(hint)}"


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool) or (origin or hint) in (list, dict):
        return isinstance(value, origin or hint)
    return True


def _say(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_say(part) for part in typing.get_args(hint))
    return {None: "null", type(None): "null", str: "text", int: "a whole number", float: "a number"}.get(
        hint, f"a {getattr(hint, '__name__', hint)}"
    )
