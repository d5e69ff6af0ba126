"""A run on vLLM that is killed goes on: the real command in a process of its own, ended by SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("vllm")

CONFIG = [
    "engine=vllm", "steps=6", "rollout.episodes=32", "checkpoint.every=1", "warm_start.max_steps=20", "loggers=[]",
    "evaluate.every=0", "pool={every: 3, size: 1}", "opponents=uniform_past",
]  # fmt: skip


def _start(run_dir, cache, *words):
    env = {**os.environ, "SPIRAL_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "spiral", "train", "--run-dir", str(run_dir), *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _metrics(run_dir):
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_on_vllm_goes_on_after_a_kill(tmp_path):
    """Every step is there once, a snapshot among the opponents is loaded again, and the learner scores what vLLM
    sampled as vLLM did before the kill and after it."""
    run = tmp_path / "run"
    process = _start(run, tmp_path / "cache", *CONFIG)
    end = time.monotonic() + 250
    while len(_metrics(run)) < 4 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = _start(run, tmp_path / "cache", "--resume")
    out, _ = resumed.communicate(timeout=250)
    assert resumed.returncode == 0, out
    assert "Traceback" not in out
    metrics = _metrics(run)
    assert [line["step"] for line in metrics] == [*range(6)]
    assert max(line["learner/ratio_gap"] for line in metrics) < 1e-4
