"""Checks arguments from a config against a factory's annotations; unknown annotations admit everything."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spiral.config.annotations import type_mismatch


def mismatches(factory: Callable[..., Any], args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(argument, what is wrong) for each value that its annotation does not admit."""
    hints = _hints(factory)
    for argument, value in args.items():
        if argument in hints and (reason := type_mismatch(value, hints[argument])):
            yield argument, reason


def required_arguments(factory: Callable[..., Any], num_core_args: int) -> list[str]:
    """The names of the arguments that a factory asks of a config, beside those that the core gives it."""
    parameters = list(inspect.signature(factory).parameters.values())[num_core_args:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind in named]


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a factory's parameters as objects; without those that exist for type checkers only."""
    made_by = factory.func if isinstance(factory, functools.partial) else factory  # of a family
    function = made_by.__init__ if inspect.isclass(made_by) else made_by
    try:
        return typing.get_type_hints(function)
    except Exception:
        # One name that only a type checker sees spoils them all: take what stands there as an object.
        annotations = {name: p.annotation for name, p in inspect.signature(made_by).parameters.items()}
        return {name: _evaluated(hint, function) for name, hint in annotations.items()}


def _evaluated(annotation: Any, function: Any) -> Any:
    """One annotation by itself; `Any` where its name exists for type checkers only."""
    alone: Any = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(alone, getattr(function, "__globals__", {}))["value"]
    except Exception:
        return Any
