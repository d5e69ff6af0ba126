"""A disk that fills up is one sentence with sizes, whatever is being written, and costs at most the steps since the last
checkpoint.

A limit on the size of a file stands for a full disk in processes of their own: libraries meet a real error of the
system. Linux's /dev/full and errors that are raised by hand stand for it elsewhere.
"""

import errno
import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from spiral.commands.main import main
from spiral.commands.scaffold import create
from spiral.evaluation.tournament.record import keep_record
from spiral.learning import warm_start_cache
from spiral.reports.html.document import write_report
from spiral.reports.tensorboard import TensorBoard
from spiral.runs import files, snapshots
from spiral.runs.directory import RunDir

CONFIG = [
    "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.legal=0", "warm_start.batch=8", "evaluate.every=2",
    "evaluate.matches=2", "checkpoint.every=2",
]  # fmt: skip


def spiral(cache, *words, largest_file=None):
    """The command in a process of its own, which can write no file of more than `largest_file` bytes."""

    def limit():
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    env = {**os.environ, "SPIRAL_CACHE": str(cache)}
    command = [sys.executable, "-m", "spiral", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, preexec_fn=limit)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps, and a cache."""
    folder = tmp_path_factory.mktemp("disk")
    done = spiral(folder / "cache", "train", "--run-dir", folder / "run", "steps=2", *CONFIG)
    assert done.returncode == 0, done.stderr
    return folder / "run", folder / "cache"


def one_sentence(done, path):
    """Of a command that met the full disk."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("spiral: ")]
    assert line.startswith(f"spiral: {path} cannot be written: no file may be so large")
    assert "it needs about" in line
    assert "are free in" in line
    return line


def test_a_checkpoint_on_a_full_disk_is_one_sentence_and_the_run_goes_on_from_the_last_whole_one(trained):
    """The optimiser's state, the largest file, does not fit: sizes and directory, nothing left over; then it resumes."""
    run, cache = trained
    largest = (run / "checkpoints/step-000002/optimizer.pt").stat().st_size
    limit = largest - 1000
    assert all(p.stat().st_size < limit for p in (run / "checkpoints").rglob("*") if p.name != "optimizer.pt")
    resume = ["train", "--run-dir", run, "--resume", "steps=4"]
    line = one_sentence(spiral(cache, *resume, largest_file=limit), run / "checkpoints" / "step-000004")
    needed = sum(p.stat().st_size for p in (run / "checkpoints/step-000002").rglob("*"))
    number, unit = line.partition("it needs about ")[2].split()[:2]
    assert float(number) * {"kB,": 1e3, "MB,": 1e6}[unit] == pytest.approx(needed, rel=0.1)
    assert f"free in {run / 'checkpoints'}" in line
    assert line.endswith(f"then go on with: spiral train --run-dir {run} --resume")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]
    assert (run / "report.html").exists()

    done = spiral(cache, *resume)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000002", "step-000004"]
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3, 4]


def test_a_new_run_on_a_full_disk_leaves_no_directory(tmp_path):
    """Without a step there is nothing to go on with; and the cache of warm starts, full too, is no reason to stop."""
    words = ["train", "--run-dir", tmp_path / "run", "steps=2", *CONFIG]
    done = spiral(tmp_path / "cache", *words, largest_file=4000)
    warning, *_ = done.stderr.splitlines()
    assert "the warm start is not kept for later runs" in warning
    assert "cannot be written: no file may be so large" in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


WRITERS = {
    "metrics.jsonl": lambda run: run.log(0, {"a": 1.0}),
    "episodes.jsonl": lambda run: run.append("episodes.jsonl", [{"a": "x" * 200}]),
    "events.jsonl": lambda run: run.write_events([{"a": "x" * 200}]),
    "policy.json": lambda run: run.write("policy.json", "x" * 200),
    "pool.json": lambda run: run.write("pool.json", "x" * 200),
    "config.yaml": lambda run: run.write("config.yaml", "x" * 200),
    "snapshots/step-000003.safetensors": lambda run: snapshots.write(run.snapshots, 3, {"a": torch.zeros(500)}),
    "tensorboard": lambda run: TensorBoard(run.path).step_finished(step=0, metrics={"a" * 200: 1.0}),
    "report.html": lambda run: write_report(run.path),
    "tournament.json": lambda run: keep_record({"a": "x" * 200}, run.path),
    "spiral-game-mine": lambda run: create("game", "mine", run.path),
}


@pytest.fixture
def full_disk(monkeypatch):
    """Every file that is closed or synced finds the disk full, but for what pytest itself writes."""

    def raises(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", raises)

    class Full:
        """An opened file that takes nothing."""

        __enter__ = __exit__ = write = raises

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda p, mode="r", *a, **k: Full() if mode == "ab" else opened(p, mode, *a, **k))


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_of_a_run_names_a_full_disk(tmp_path, full_disk, name):
    """One sentence with the file, what it needs and the space there is; nothing is left beside it."""
    with pytest.raises(files.WriteError) as caught:
        WRITERS[name](RunDir(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path / name}")
    assert "cannot be written: no space is left on the disk; it needs about" in str(caught.value)
    assert "are free in" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob(".*")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_log_on_a_full_device(tmp_path):
    """The system's own error, as a line is flushed."""
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(files.WriteError, match=r"metrics.jsonl cannot be written: no space is left"):
        RunDir(tmp_path).log(0, {"a": 1.0})


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "quota is used up; it needs about 5 bytes"),
        (errno.EROFS, "read-only; write elsewhere"),
        (errno.EACCES, "permission is denied; write elsewhere"),
    ],
)
def test_other_states_of_a_disk(tmp_path, number, words):
    with pytest.raises(files.WriteError, match=words), files.writing(tmp_path / "a", 5):
        raise OSError(number, os.strerror(number))


def test_an_error_that_is_no_state_of_the_disk_keeps_its_traceback(tmp_path):
    """A fault of the program must not look like a full disk."""
    for error in (OSError(errno.EBADF, "bad descriptor"), ValueError("a bug"), RuntimeError("os error 28")):
        with pytest.raises(type(error)) as caught, files.writing(tmp_path / "a", 5):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_libraries_hide_the_error_and_it_is_found(tmp_path, library):
    """torch raises its own while it handles the system's; safetensors has it in its text only."""
    code = f"""
import resource, torch
from pathlib import Path
from safetensors.torch import save_file
from spiral.runs.files import replace_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
def by_torch(path):
    with path.open("wb") as file:
        torch.save([torch.zeros(5000)], file)
write = {{"torch": by_torch, "safetensors": lambda path: save_file({{"a": torch.zeros(5000)}}, path)}}["{library}"]
replace_file(Path({str(tmp_path / "file")!r}), write, 20000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"spiral.runs.files.WriteError: {tmp_path / 'file'} cannot be written: no file may be so large"
    )
    assert "needs about 20 kB" in last
    assert [*tmp_path.iterdir()] == []


def test_a_full_cache_is_a_warning(tmp_path, full_disk, caplog):
    """Time was saved for nobody; the run goes on."""
    with caplog.at_level(logging.WARNING):
        warm_start_cache._keep(tmp_path / "warm_start" / "a.safetensors", {"a": torch.zeros(3)})
    [record] = caplog.records
    assert "not kept for later runs" in record.getMessage()
    assert "no space is left" in record.getMessage()
    assert [*(tmp_path / "warm_start").iterdir()] == []


def test_a_table_that_does_not_fit_is_one_sentence(tmp_path, full_disk, monkeypatch):
    """`--policy-out`, by the command."""
    monkeypatch.setattr("spiral.training.session.Policy.exploitability", lambda self, game, samples: {"table": {}})
    words = ["exploitability", "random", "--game", "kuhn_poker", "--policy-out", str(tmp_path / "p.json"), "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "p.json cannot be written: no space is left" in result.output


def test_a_tournament_is_shown_before_it_is_written(tmp_path):
    """Games may have taken hours: a disk that is full then does not cost them."""
    words = ["tournament", "random", "equilibrium", "--game", "kuhn_poker", "--games", 4, "--out", tmp_path / "t"]
    done = spiral(tmp_path, *words, largest_file=500)
    one_sentence(done, tmp_path / "t" / "tournament.json")
    assert "ratings" in done.stdout


def test_a_save_of_tensors_knows_its_size():
    """Nested states count by their tensors."""
    state = {
        "tensors": {"live": {"a": torch.zeros(10)}},
        "optimizer": {"state": [torch.zeros(2, 5)]},
        "values": {"n": 1},
    }
    assert files.num_bytes(state) == 80
