"""The lock of a run's directory."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from spiral.api.errors import RunError
from spiral.config.loading import load
from spiral.plugins.registry import Plugins
from spiral.runs import lock
from spiral.runs.directory import RunDir
from spiral.runs.lock import locked
from spiral.training.launch import launch, run_training
from spiral.training.session import Run

HOLD = """
import sys, time
from pathlib import Path
from spiral.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/run."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_is_held_by_one_process_and_the_other_one_is_told_which(tmp_path, holder):
    with (
        pytest.raises(RunError, match=f"run is being trained by process {holder.pid} on .*; wait for its end or stop"),
        locked(tmp_path / "run"),
    ):
        pass


def test_the_kernel_gives_the_lock_back_when_the_process_is_killed(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / lock.NAME).read_text().startswith(f"{os.getpid()} ")


def test_the_lock_is_given_back_at_the_end(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            pass


def test_within_one_process_too(tmp_path):
    """As two cells of a notebook, one in a thread."""
    with (
        locked(tmp_path / "run"),
        pytest.raises(RunError, match=f"by process {os.getpid()} on"),
        locked(tmp_path / "run"),
    ):
        pass


def test_a_directory_that_its_holder_removed_is_no_longer_held(tmp_path):
    """A run that fails at its start removes its directory; a new one of that name is another directory."""
    with locked(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
        with locked(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="file/run cannot be written .*; give another --run-dir"),
        locked(tmp_path / "file/run"),
    ):
        pass


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    """The run is worth more than the lock."""

    def flock(*_):
        raise OSError(lock.errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with locked(tmp_path / "run"):
        assert "without locks" in caplog.text


SMALL = ["steps=1", "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=0", "loggers=[]"]


def test_training_in_a_directory_that_is_trained_in_is_refused(tmp_path, holder):
    """A new run, a resumed one and a best response alike; the directory is left as it is, and reading goes on."""
    path, config, plugins = tmp_path / "run", load(None, SMALL), Plugins.installed()
    with pytest.raises(RunError, match="is being trained by"):
        launch(None, SMALL, path, False, quiet=True)
    RunDir.create(path, config, {})
    before = sorted((file.name, file.read_bytes()) for file in path.iterdir())
    with pytest.raises(RunError, match="is being trained by"):
        launch(None, [], path, True, quiet=True)
    with pytest.raises(RunError, match="is being trained by"):
        run_training(config, RunDir(path), plugins, True, "best-response x", quiet=True)
    assert sorted((file.name, file.read_bytes()) for file in path.iterdir()) == before
    assert Run(path).steps == []


def test_a_run_is_locked_while_it_trains_and_free_after_it(tmp_path, monkeypatch):
    """To the last line that it writes."""
    path, tried = tmp_path / "run", []

    def write_report(run):
        with pytest.raises(RunError, match="is being trained by"):
            launch(None, [], path, True, quiet=True)
        tried.append(run)

    monkeypatch.setattr("spiral.training.recorder.write_report", write_report)
    launch(None, SMALL, path, False, quiet=True)
    assert tried == [path]
    with locked(path):
        pass
