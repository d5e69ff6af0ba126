"""What a run does with its directory when it saves and when it is resumed."""

import logging
import shutil

import pytest

from spiral.runs.directory import RunDir
from spiral.training.launch import launch

SMALL = [
    "steps=2", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=0", "checkpoint.every=1", "loggers=[]", "pool.every=1",
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run of two steps."""
    return launch(None, SMALL, tmp_path / "run", False, quiet=True)


def test_foreign_files_among_the_checkpoints_are_left_alone_and_named_once(run, caplog):
    """A copy that someone made, a note, a snapshot's copy, and a checkpoint whose state is damaged: no save stumbles."""
    shutil.copytree(run.checkpoint(2), run.checkpoints / "step-000002.bak")
    (run.checkpoints / "notes.txt").write_text("the good one")
    shutil.copy(run.snapshots / "step-000001.safetensors", run.snapshots / "step-best.safetensors")
    (run.checkpoint(1) / "state.json").write_text("{")
    kept = ["step-000002.bak", "notes.txt"]
    with caplog.at_level(logging.WARNING):
        launch(None, ["steps=4", "checkpoint.keep=0"], run.path, True, quiet=True)
    assert [path.name for path in run.checkpoint_paths()] == [f"step-{step:06d}" for step in (1, 2, 3, 4)]
    assert all((run.checkpoints / name).exists() for name in kept)
    assert (run.snapshots / "step-best.safetensors").exists()
    named = [r.getMessage() for r in caplog.records if "it is left alone" in r.getMessage()]
    assert sorted(named) == sorted(
        [f"{run.checkpoints / name} lies among the checkpoints and is none; it is left alone" for name in kept]
        + [f"{run.checkpoints / 'step-000001'} lies among the checkpoints and cannot be read; it is left alone"]
    )


def test_a_run_that_is_resumed_without_a_checkpoint_says_that_it_starts_over(tmp_path, caplog):
    run = launch(None, [*SMALL, "steps=1"], tmp_path / "run", False, quiet=True)
    shutil.rmtree(run.checkpoints)
    with caplog.at_level(logging.WARNING):
        launch(None, [], run.path, True, quiet=True)
    assert f"{run.path} has no checkpoint yet, so it starts over at step 0" in caplog.text
    caplog.clear()
    launch(None, ["steps=2"], run.path, True, quiet=True)
    assert "starts over" not in caplog.text
    assert RunDir(run.path).checkpoint().name == "step-000002"
