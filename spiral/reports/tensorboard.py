"""Writes a run's metrics for TensorBoard.

An observer, switched on by the config; metrics.jsonl is not one, but part of every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiral.api.hooks import hookimpl


class TensorBoard:
    """Writes every metric as a scalar under RUN/tensorboard; a resumed run overwrites what it plays again."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir / "tensorboard"
        self._writer: Any = None

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._dir), purge_step=step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    @hookimpl
    def run_finished(self, step: int) -> None:
        if self._writer is not None:
            self._writer.close()
