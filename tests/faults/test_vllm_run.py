"""A run on vLLM that is killed goes on: the real command in a process of its own, ended by SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

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


ADAPTERS = [
    "learner.method={name: lora, args: {rank: 4}}", "pool={every: 1, size: 4}", "steps=8", "rollout.episodes=16",
]  # fmt: skip
"""The same with an adapter as what is trained, and four snapshots of it among the opponents."""


def _killed_and_resumed(run, cache, words, num_steps):
    """The metrics of a run that was killed by SIGKILL after `num_steps` and resumed to its end."""
    process = _start(run, cache, *words)
    end = time.monotonic() + 250
    while len(_metrics(run)) < num_steps and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = _start(run, cache, "--resume")
    out, _ = resumed.communicate(timeout=250)
    assert resumed.returncode == 0, out
    assert "Traceback" not in out
    return _metrics(run)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_on_vllm_goes_on_after_a_kill(tmp_path):
    """Every step is there once, a snapshot among the opponents is loaded again, and the learner scores what vLLM
    sampled as vLLM did before the kill and after it."""
    metrics = _killed_and_resumed(tmp_path / "run", tmp_path / "cache", CONFIG, 4)
    assert [line["step"] for line in metrics] == [*range(6)]
    assert max(line["learner/ratio_gap"] for line in metrics) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_adapters_on_vllm_goes_on_after_a_kill(tmp_path):
    """The same, with all policies in one vLLM engine. What the run keeps are adapters, whichever step left them."""
    pytest.importorskip("peft")
    metrics = _killed_and_resumed(tmp_path / "run", tmp_path / "cache", [*CONFIG, *ADAPTERS], 5)
    assert [line["step"] for line in metrics] == [*range(8)]
    assert max(line["learner/ratio_gap"] for line in metrics) < 1e-4
    snapshots = [*(tmp_path / "run" / "snapshots").glob("*.safetensors")]
    assert len(snapshots) >= 4
    files = [*snapshots, *(tmp_path / "run" / "checkpoints").rglob("*.safetensors")]
    assert all(".lora_" in name for file in files for name in load_file(file))
    episodes = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert len({policy for episode in episodes if episode["step"] >= 5 for policy in episode["policies"]}) > 4
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-000008" / "state.json").read_text())
    assert len(state["plugins"]["pool"]["snapshots"]["learner"]) == 4
