"""Calls the observers of a run; what a logger raises costs its records, and never the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy

from spiral.api.errors import SpiralError
from spiral.api.text import printable_logger

MAX_FAILURES = 3
"""Calls of a logger that may fail one after the other before it is called no more."""

log = printable_logger(__name__)


class Observers:
    """`observers.step_finished(step=..., ...)` calls each observer's hook of that name, the last registered first,
    and returns what they returned, but for None."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self._loggers: dict[int, str] = {}
        """By their id: an object with a hook need not be hashable."""
        self._num_failures: dict[int, int] = {}

    def tolerate(self, observer: object, name: str) -> None:
        """Take what the observer `name` raises as a warning; SpiralError still stops the run, as everywhere."""
        self._loggers[id(observer)] = name

    def __getattr__(self, hook: str) -> Callable[..., list[Any]]:
        caller = getattr(self._manager.hook, hook)

        def call(**values: Any) -> list[Any]:
            results = []
            # One by one, not by pluggy: it ends all calls at the first error, and does not say whose it was.
            for impl in reversed(caller.get_hookimpls()):
                try:
                    results.append(impl.function(*[values[name] for name in impl.argnames]))
                    self._num_failures[id(impl.plugin)] = 0
                except SpiralError:
                    raise
                except Exception as error:
                    if id(impl.plugin) not in self._loggers:
                        raise
                    self._failed(impl.plugin, hook, error)
            return [result for result in results if result is not None]

        return call

    def _failed(self, logger: object, hook: str, error: Exception) -> None:
        num = self._num_failures[id(logger)] = self._num_failures.get(id(logger), 0) + 1
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        end = "it is called no more, and the run goes on" if num >= MAX_FAILURES else "the run goes on"
        log.warning("logger '%s' failed in %s: %s; %s", self._loggers[id(logger)], hook, reason, end)
        if num >= MAX_FAILURES:
            self._manager.unregister(logger)
