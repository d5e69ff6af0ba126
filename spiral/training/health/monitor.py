"""Keeps watch over a run's health: asks the detector each step, and keeps the events; what follows is the loop's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from spiral.config.schema import HealthConfig
from spiral.training.health import Detector


class Vigil:
    """`state` is what a checkpoint keeps: what the detector remembers, and every event so far."""

    def __init__(self, config: HealthConfig, match_games: int, perfect_information: Collection[str]) -> None:
        """See `Detector` for the last two."""
        self._config = config
        self.detector = Detector(config.window, match_games, perfect_information)
        self.events: list[dict[str, Any]] = []

    def look(self, step: int, metrics: Mapping[str, float], num_rollbacks: int) -> dict[str, Any] | None:
        """The event of this step, if anything collapsed; its `action` is what is to be done."""
        found = self.detector.observe(step, metrics)
        if found is None:
            return None
        action = self._config.action if found.severity == "collapse" else "note"
        if action == "rollback" and num_rollbacks >= self._config.max_rollbacks:
            action = "note"
        event = {**asdict(found), "action": action}
        self.events.append(event)
        return event

    @property
    def state(self) -> dict[str, Any]:
        """JSON values."""
        return {"detector": self.detector.state, "events": self.events}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.detector.state, self.events = state["detector"], list(state["events"])
