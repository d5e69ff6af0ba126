"""A bench that SIGKILL ended goes on where it was: the real command, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from spiral.training.session import train

TINY = {
    "steps": 1, "rollout.episodes": 8, "warm_start": {"max_steps": 0, "cache": False}, "loggers": [],
    "evaluate.every": 0, "model.args.context": 128, "engine.args.max_rows": 8,
}  # fmt: skip
NUM = 400


def _start(*words):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "spiral", "bench", *map(str, words), "--json"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _record(process):
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors[-3000:]
    found = json.loads(out)
    del found["seconds"]
    return found


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bench_that_was_killed_has_the_table_of_one_that_was_not(tmp_path):
    """Whole lines of replies are on disk when the kill comes; what they hold is not asked again, and stays as it was."""
    run, questions, out = tmp_path / "run", tmp_path / "questions.jsonl", tmp_path / "killed"
    train(TINY, run_dir=run, quiet=True)
    rows = [{"id": str(n), "question": f"{n} + 1", "answer": str(n + 1)} for n in range(NUM)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [run, "--tasks", f"jsonl:path={questions},grader=text", "--max-new-tokens", 24]
    whole = _record(_start(*words, "--out", tmp_path / "whole"))
    process, deadline = _start(*words, "--out", out), time.monotonic() + 200
    while _lines(out / "replies.jsonl") < 64 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    before = (out / "replies.jsonl").read_bytes()
    assert process.returncode == -signal.SIGKILL
    assert 64 <= before.count(b"\n") < NUM
    assert _record(_start(*words, "--out", out)) == whole
    after = (out / "replies.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    assert after.count(b"\n") == NUM
