"""The layers of a configuration: each spelt out in full and laid over the one before; plain mappings and lists only."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from spiral.config.schema import Config


@dataclasses.dataclass(frozen=True)
class Layer:
    """Keys and values from one place."""

    source: str
    """Where they come from, as `spiral train --show` says it."""
    tree: Mapping[str, Any]


def merged(layers: typing.Sequence[Layer]) -> dict[str, Any]:
    """All layers, each over the one before."""
    return dict(functools.reduce(merge, (layer.tree for layer in layers), {}))


def long_form(tree: Mapping[str, Any], schema: type = Config) -> dict[str, Any]:
    """Short forms written out: a name alone becomes {name: ...}, a single entry of a list becomes a list of one."""
    long = dict(tree)
    for key, field_type in types_of(schema).items():
        if key not in long:
            continue
        value, entry = long[key], entry_of(field_type)
        if entry is None:
            nested = dataclasses.is_dataclass(field_type) and isinstance(value, Mapping)
            long[key] = long_form(value, field_type) if nested else value
        elif typing.get_origin(field_type) is list:
            several = [value] if isinstance(value, str) or is_entry(value, entry) else value
            several = list(several) if isinstance(several, tuple) else several
            long[key] = [named(item, entry) for item in several] if isinstance(several, list) else several
        else:
            long[key] = named(value, entry)
    return long


def named(value: Any, entry: type) -> Any:
    """An entry that is written as its name alone, in full."""
    return {key_of(entry): value} if isinstance(value, str) else value


def is_entry(value: Any, entry: type) -> bool:
    return isinstance(value, Mapping) and key_of(entry) in value


def key_of(entry: type) -> str:
    """The key that a name alone stands for: the first one, which has no default."""
    return dataclasses.fields(entry)[0].name


@functools.cache
def types_of(schema: type) -> dict[str, Any]:
    """Field -> its type."""
    return typing.get_type_hints(schema)


def entry_of(field_type: Any) -> type | None:
    """The dataclass of a field that holds named things, one or a list of them; None for any other field."""
    inside = [t for t in (field_type, *typing.get_args(field_type)) if dataclasses.is_dataclass(t)]
    return next((t for t in inside if isinstance(t, type) and _has_no_default(dataclasses.fields(t)[0])), None)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def merge(base: Any, layer: Any) -> Any:
    """`layer` over `base`: mappings key by key, `list.0` by position, anything else replaced.

    Another plug-in name replaces the whole entry: the arguments of the old one must not reach the new one.
    """
    if isinstance(base, list) and isinstance(layer, Mapping) and layer and all(str(k).isdigit() for k in layer):
        indexed = {int(k): v for k, v in layer.items()}
        if max(indexed) >= len(base):
            return layer  # there is no such entry: reported when it is filled in
        return [merge(item, indexed[i]) if i in indexed else item for i, item in enumerate(base)]
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        return layer
    if "name" in base and layer.get("name", base["name"]) != base["name"]:
        return dict(layer)
    return {**base, **{k: merge(base[k], v) if k in base else v for k, v in layer.items()}}
