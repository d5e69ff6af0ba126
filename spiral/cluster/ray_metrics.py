"""The metrics of a run among Ray's own, which its dashboard and Prometheus read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge

from spiral.api.hooks import hookimpl


class RayMetrics:
    """Observes a run: each metric of a step is a gauge, `spiral_` and its name with an underscore for every other sign,
    with the run's name as a tag."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Any] = {}

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in {"step": float(step), **metrics}.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(gauge_name(name), description=name, tag_keys=("run",))
            self._gauges[name].set(value, tags={"run": self._run})


def gauge_name(metric: str) -> str:
    """Prometheus admits letters, digits and underscores."""
    return "spiral_" + re.sub(r"[^a-zA-Z0-9_]", "_", metric)
