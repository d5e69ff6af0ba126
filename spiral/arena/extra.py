"""What the arena needs beyond the core, told in a sentence where it is not installed; imports nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spiral.api.errors import SpiralError


@contextmanager
def arena_extra(what: str) -> Iterator[None]:
    """Around the imports of `what`, which names it in the error. Raises SpiralError where the extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SpiralError(
            f'{what} needs {error.name}, which is not installed; pip install "spiral-selfplay[arena]"'
        ) from error
