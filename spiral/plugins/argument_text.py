"""Arguments of a plug-in as text, the inverse of `parse_plugin`: different arguments have different texts."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/.][\w/.:@+*=-]*(?<!:)")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "none"})
"""Texts that a reader of YAML takes for something else."""


def argument_text(args: Mapping[str, Any]) -> str:
    """`key=value,key=value` by key; a text is quoted where it could be read as another value, or as more of them."""
    return ",".join(f"{key}={_written(value)}" for key, value in sorted(args.items()))


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | dict) or (isinstance(value, str) and not _says_itself(value)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _says_itself(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)  # also nan and inf
        return False
    return _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
