"""TensorBoard reads what the logger writes: every metric by step, and of a step written twice the later values."""

import math

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spiral.reports.tensorboard import TensorBoard


def _read(run_dir):
    found = EventAccumulator(str(run_dir / "tensorboard"))
    found.Reload()
    return found


def test_every_metric_is_a_scalar_after_each_step(tmp_path):
    """Without closing anything: a killed run has lost nothing."""
    logger = TensorBoard(tmp_path)
    for step in range(3):
        logger.step_finished(step=step, metrics={"a/b": step / 2, "c": math.nan})
        assert [(point.step, point.value) for point in _read(tmp_path).Scalars("a/b")][-1] == (step, step / 2)
    assert _read(tmp_path).Tags()["scalars"] == ["a/b", "c"]


def test_a_run_that_was_rolled_back_overwrites_what_it_plays_again(tmp_path):
    """In one file: each step once, with the later value."""
    logger = TensorBoard(tmp_path)
    for step, value in ((0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (1, 5.0), (2, 5.0)):
        logger.step_finished(step=step, metrics={"a": value})
    assert [(p.step, p.value) for p in _read(tmp_path).Scalars("a")] == [(0, 1.0), (1, 5.0), (2, 5.0)]


def test_a_resumed_run_overwrites_what_it_plays_again(tmp_path, monkeypatch):
    """Two processes, hence two files, the second from step 2 on."""
    for start, value, now in ((0, 1.0, 1000.0), (2, 5.0, 2000.0)):
        monkeypatch.setattr("spiral.reports.tensorboard.time.time", lambda now=now: now)
        logger = TensorBoard(tmp_path)
        for step in range(start, 4):
            logger.step_finished(step=step, metrics={"a": value})
    assert len([*(tmp_path / "tensorboard").iterdir()]) == 2
    assert [(p.step, p.value) for p in _read(tmp_path).Scalars("a")] == [(0, 1.0), (1, 1.0), (2, 5.0), (3, 5.0)]
