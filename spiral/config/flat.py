"""A config as one row: dotted key -> plain value, as tables and trackers take it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """`{"games.0.name": "kuhn_poker", ...}`; a list of plain values, or an empty one, is one value, as JSON text."""
    return dict(_leaves("", config))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inside in value.items():
            yield from _leaves(f"{key}.{name}".lstrip("."), inside)
    elif isinstance(value, list | tuple) and any(isinstance(inside, Mapping) for inside in value):
        for place, inside in enumerate(value):
            yield from _leaves(f"{key}.{place}", inside)
    else:
        yield key, value if isinstance(value, bool | int | float | str | None) else json.dumps(value)
