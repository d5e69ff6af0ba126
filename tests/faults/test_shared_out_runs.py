"""Whole runs of two processes that share out one model (FSDP2, gloo, on the CPU), started by accelerate with the config
of examples/: they are the run of one process, go on as one and from one, and end together when one of them dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spiral.runs.checkpoints import evaluated_weights

CONFIG = Path(__file__).parents[2] / "examples" / "fsdp2.yaml"
SMALL = [
    "steps=4", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=2", "evaluate.opponents=[]", "pool.every=2", "checkpoint.every=2", "checkpoint.keep=0",
    "checkpoint.episodes=8", "loggers=[]",
]  # fmt: skip
SHARED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


def _env(**more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "FSDP_"))}
    # Where a process dies in the middle of C++, its Python stack tells where.
    common = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "1"}
    return {**kept, **common, **more}


def _train(path, *words, processes=1):
    launcher = ["accelerate.commands.accelerate_cli", "launch", "--config_file", CONFIG, "-m"] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, "-m", *map(str, launcher), "spiral", "train", "--run-dir", path, *words],
        env=_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
    )  # fmt: skip
    # The launcher's table of who ended how comes last, and is long; what a process said comes before it.
    assert done.returncode == 0, done.stdout[-12000:]


def _lines(path, name):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def _moves(path):
    return [
        (row["step"], row["deal"], [turn["move"] for turn in row["turns"]]) for row in _lines(path, "episodes.jsonl")
    ]


def _same_runs(first, second):
    """The same games, and weights, snapshots and measurements that differ by rounding."""
    assert _moves(first) == _moves(second)
    last = [path / "checkpoints" / "step-000004" for path in (first, second)]
    for one, two in (
        [evaluated_weights(path) for path in last],
        [load_file(path / "model" / "model.safetensors") for path in last],
        [load_file(path / "snapshots" / "step-000002.safetensors") for path in (first, second)],
    ):
        assert one.keys() == two.keys()
        for name, weight in one.items():
            torch.testing.assert_close(weight, two[name], atol=1e-4, rtol=1e-3)
    for one, two in zip(_lines(first, "metrics.jsonl"), _lines(second, "metrics.jsonl"), strict=True):
        for name in (name for name in one if "nash_conv" in name or name in ("learner/reply_tokens", "games")):
            assert one[name] == pytest.approx(two[name], abs=1e-3), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By the number of processes."""
    paths = {num: tmp_path_factory.mktemp("runs") / str(num) for num in (1, 2)}
    for num, path in paths.items():
        _train(path, *SMALL, processes=num)
    return paths


def test_two_processes_that_share_out_a_model_train_what_one_would(runs):
    """Games, averaged weights, snapshots, exact figures and checkpoints' models."""
    _same_runs(runs[1], runs[2])
    assert (runs[2] / "checkpoints" / "step-000004" / "sharded" / ".metadata").exists()


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(runs, tmp_path, before, after):
    """From the checkpoint of step 2, and is the run that was never stopped."""
    path = shutil.copytree(runs[before], tmp_path / "r")
    shutil.rmtree(path / "checkpoints" / "step-000004")
    _train(path, "--resume", processes=after)
    assert (path / "checkpoints" / "step-000004" / "sharded").exists() == (after == 2)
    _same_runs(runs[1], path)


def _start(path, rank, port, env, *words):
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return subprocess.Popen(
        [sys.executable, "-m", "spiral", "train", "--run-dir", path, *words],
        env=_env(**{key: str(value) for key, value in group.items()}, **env),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("env", "killed"),
    [pytest.param({}, 1, marks=pytest.mark.slow, id="data parallel"), pytest.param(SHARED, 0, id="fsdp2")],
)
def test_a_killed_process_ends_the_other_with_a_sentence(tmp_path, env, killed):
    """kill -9 of either: the other ends by itself with exit code 2 and says what happened and how to go on; the run
    does, in one process."""
    path, words = tmp_path / "r", [*SMALL, "steps=100000", "evaluate.every=0", "pool.every=0", "process_deadline_s=60"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [_start(path, rank, port, env, *words) for rank in (0, 1)]
    try:
        deadline = time.monotonic() + 200
        while not (path / "checkpoints" / "step-000004").exists() and time.monotonic() < deadline:
            assert all(process.poll() is None for process in both), both[0].communicate()[0]
            time.sleep(0.02)
        both[killed].send_signal(signal.SIGKILL)
        printed, _ = both[1 - killed].communicate(timeout=100)
    finally:
        for process in both:
            process.kill()
    assert both[1 - killed].returncode == 2, printed
    [line] = [line for line in printed.splitlines() if line.startswith("spiral: ")]
    assert line.startswith("spiral: another process of the run ended, or did not answer within process_deadline_s=60 s")
    assert line.endswith(f"go on from the last checkpoint with: spiral train --run-dir {path} --resume")
    last = max(int(p.name.removeprefix("step-")) for p in (path / "checkpoints").glob("step-*"))
    _train(path, "--resume", f"steps={last + 1}")
    assert [line["step"] for line in _lines(path, "metrics.jsonl")] == list(range(last + 1))
