"""Writes a run's metrics for TensorBoard.

An observer, switched on by the config; metrics.jsonl is not one, but part of every run.
"""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from spiral.api.hooks import hookimpl
from spiral.runs.files import append, make_directory


class TensorBoard:
    """Writes every metric as a scalar under RUN/tensorboard; a run that was resumed or rolled back overwrites what it
    plays again."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir / "tensorboard"
        self._path: Path | None = None
        self._last_step: int | None = None

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        # Not torch's SummaryWriter: it writes in a thread, which prints a traceback of its own when the disk is full,
        # and tells the caller minutes later, if at all.
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        events = []
        if self._path is None:
            make_directory(self._dir)
            # TensorBoard takes files with this beginning, and reads them in the order of their names.
            self._path = self._dir / f"events.out.tfevents.{time.time():010.0f}.{platform.node()}.{os.getpid()}"
            events.append(Event(file_version="brain.Event:2"))
        if self._last_step is None or step <= self._last_step:
            # TensorBoard then forgets what it read of this step and later ones, here and in earlier files.
            events.append(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
        self._last_step = step
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        events.append(Event(step=step, summary=Summary(value=values)))
        data = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(data).write(event.SerializeToString())
        append(self._path, data.getvalue())
