"""JSON values of any shape, read as the expected type and bounded in size."""

from __future__ import annotations

import math
from typing import Any

Json = dict[str, Any]


def as_list(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_dict(value: Any) -> Json:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_float(value: float) -> float:
    """A number as a float, infinity if it is too large."""
    try:
        return float(value)
    except OverflowError:  # an integer too large
        return math.inf


def as_number(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    if not isinstance(value, int | float) or not math.isfinite(as_float(value)):
        return None
    return value if isinstance(value, int) else rounded(value)


def rounded(value: float) -> float:
    """Six digits, which is more than any plot shows."""
    return float(f"{value:.6g}")


def as_text(value: Any, limit: int) -> str:
    """Text of about `limit` characters at most; more of its end than its start: observations grow."""
    text = "" if value is None else value if isinstance(value, str) else str(value)
    head, tail = limit // 3, len(text) - (limit - limit // 3)
    return text if tail <= head else f"{text[:head]}\n[{tail - head} characters left out]\n{text[tail:]}"


def as_name(value: Any) -> str:
    """The name of a game or a policy, cut alike wherever the page shows or compares one."""
    return as_text(value, 200)
