"""Runs the collapse detector once a step, stores its events and decides the action: note, stop or roll back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from spiral.config.schema import HealthConfig
from spiral.training.health.detector import Collapse, Detector


class HealthMonitor:
    """`state` is what a checkpoint keeps: what the detector remembers, and every event so far."""

    def __init__(self, config: HealthConfig, num_matches: int, perfect_information: Collection[str]) -> None:
        """See `Detector` for the last two."""
        self._config = config
        self._detector = Detector(config.window, num_matches, perfect_information)
        self.events: list[dict[str, Any]] = []

    def check(self, step: int, metrics: Mapping[str, float], num_rollbacks: int) -> dict[str, Any] | None:
        """The event of this step, if anything collapsed; its `action` is what is to be done."""
        collapse = self._detector.observe(step, metrics)
        if collapse is None:
            return None
        action: str = self._config.action if collapse.severity == "collapse" else "note"
        if action == "rollback" and num_rollbacks >= self._config.max_rollbacks:
            action = "note"
        return self._kept(collapse, action)

    def note(self, collapse: Collapse) -> dict[str, Any]:
        """The event of something that was found elsewhere; nothing is done about it."""
        return self._kept(collapse, "note")

    def _kept(self, collapse: Collapse, action: str) -> dict[str, Any]:
        event = {**asdict(collapse), "action": action}
        self.events.append(event)
        return event

    def last_healthy(self, step: int) -> int:
        """The last step up to `step` at which nothing was wrong, as far as can be told."""
        return self._detector.last_healthy(step)

    @property
    def state(self) -> dict[str, Any]:
        """JSON values."""
        return {"detector": self._detector.state, "events": self.events}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._detector.state, self.events = state["detector"], list(state["events"])
