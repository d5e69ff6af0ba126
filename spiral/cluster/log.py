"""What a process on another node logs, for the terminal of the command."""

from __future__ import annotations

import logging
from collections.abc import Callable


class Warnings(logging.Handler):
    """Hands each warning of this library in this process to a function, until it is closed."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        logging.getLogger("spiral").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._tell(record.getMessage())

    def close(self) -> None:
        """See `logging.Handler`."""
        logging.getLogger("spiral").removeHandler(self)
        super().close()
