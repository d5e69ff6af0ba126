"""An engine's memory is the learner's while it updates, where the two share a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asleep(engine: Any) -> Iterator[None]:
    """A block during which an engine sleeps, if it has the optional members `sleep` and `wake`."""
    sleep, wake = getattr(engine, "sleep", None), getattr(engine, "wake", None)
    if sleep is None or wake is None:
        yield
        return
    sleep()
    try:
        yield
    finally:
        wake()
