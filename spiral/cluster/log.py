"""What a process on another node logs, for the terminal of the command."""

from __future__ import annotations

import logging
from collections.abc import Callable

from spiral.api.text import printable_logger


class Warnings(logging.Handler):
    """Hands each warning of this library in this process to a function, until `stop`."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        printable_logger("spiral").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._tell(record.getMessage())

    def stop(self) -> None:
        """Hand out no more. Not `close`, which a library that configures logging calls for all handlers there are."""
        printable_logger("spiral").removeHandler(self)
