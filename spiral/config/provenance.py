"""A configuration as YAML in which every value says where it came from, and which is read back to an equal one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from spiral.config.layers import Layer, merged
from spiral.config.schema import Config

_UNSAID = "defaults"
"""The source of what no layer says, and the schema does."""


@dataclass(frozen=True)
class _Said:
    """A value and who said it; equal to another of the same value, so that merging compares what it always does."""

    value: Any
    source: str = field(compare=False)


def with_sources(config: Config, layers: Sequence[Layer]) -> str:
    """`config`, which was made of `layers`, with the source of each value behind it."""
    said = merged([Layer(layer.source, _said(layer.tree, layer.source)) for layer in layers])
    return "\n".join(_lines(asdict(config), said, "")) + "\n"


def _said(value: Any, source: str) -> Any:
    """Every leaf as a `_Said`; a list of plain values is one leaf, since layers replace it whole."""
    if isinstance(value, Mapping):
        return {key: _said(inside, source) for key, inside in value.items()}
    if isinstance(value, list) and any(isinstance(inside, Mapping) for inside in value):
        return [_said(inside, source) for inside in value]
    return _Said(value, source)


def _lines(tree: Mapping[str, Any], said: Any, indent: str) -> Iterator[str]:
    for key, value in tree.items():
        source = said.get(key) if isinstance(said, Mapping) else said
        if source is None and key == "args" and isinstance(said, Mapping):
            source = said.get("name")  # who named a plug-in without arguments said that it has none
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, source, f"{indent}  ")
        elif isinstance(value, list | tuple) and any(isinstance(inside, Mapping) for inside in value):
            yield f"{indent}{key}:"
            for place, inside in enumerate(value):
                own = source[place] if isinstance(source, list) and place < len(source) else source
                first, *rest = _lines(inside, own, f"{indent}  ")
                yield f"{indent}- {first.lstrip()}"
                yield from rest
        else:
            yield f"{indent}{key}: {_plain(value)}  # {_source(source)}"


def _source(said: Any) -> str:
    return said.source if isinstance(said, _Said) else _UNSAID


def _plain(value: Any) -> str:
    """A value on one line, as YAML."""
    told = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(told, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")
