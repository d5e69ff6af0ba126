"""What a command needs beyond the core, told in a sentence where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spiral.api.errors import SpiralError


@contextmanager
def arena_extra(what: str) -> Iterator[None]:
    """Around the imports of a command that serves pages. Raises SpiralError where the extra `arena` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SpiralError(
            f'{what} needs {error.name}, which is not installed; pip install "spiral-selfplay[arena]"'
        ) from error
