"""Two processes on the CPU (gloo): they train what one would, roll back together, and stop together.

The processes are started by hand with the environment that torchrun gives them. `accelerate launch --cpu` would start a
single one here: each test checks that there were two.
"""

import json
import os
import socket
import subprocess
import sys

import torch
from safetensors.torch import load_file

SMALL = [
    "steps=3", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=0", "checkpoint.every=2", "checkpoint.keep=0", "checkpoint.episodes=8", "loggers=[]",
    "evaluate.opponents=[]",
]  # fmt: skip

RUN = """
import sys
from pathlib import Path
from accelerate import PartialState
from spiral import SpiralError
from spiral.training import launch
from spiral.training.health import monitor
from spiral.training.health.detector import Collapse

what, path, *words = sys.argv[1:]


class AlwaysAtFive:
    state: dict = {}

    def __init__(self, *_):
        pass

    def observe(self, step, metrics):
        return Collapse(5, "test", "kuhn_poker", "It fell over.", "collapse", 4) if step == 5 else None

    def last_healthy(self, step):
        return min(step, 3)


if what == "collapse":
    monitor.Detector = AlwaysAtFive
if what == "broken":
    from spiral_games.native.kuhn_poker import KuhnPoker
    reset, observe, chance = KuhnPoker.reset, KuhnPoker.observe, float(words.pop(0))

    def dealing(self, rng):
        reset(self, rng)
        self.broken = rng.random() < chance

    def failing(self, player):
        if self.broken:
            raise ValueError("no cards")
        return observe(self, player)

    KuhnPoker.reset, KuhnPoker.observe = dealing, failing
try:
    launch.launch(None, words, Path(path), False, quiet=True)
except SpiralError as error:
    print("stopped:", error)
print("processes:", PartialState().num_processes)
"""


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _run(num, what, path, *words):
    """What each of `num` processes printed, in the order of their numbers; every one ends by itself."""
    shared = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "1", "WORLD_SIZE": str(num), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port()),
    }  # fmt: skip
    command = [sys.executable, "-c", RUN, what, str(path), *words]
    processes = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if num > 1 else os.environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(num)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * num, "\n".join(printed)[-4000:]
    assert all(f"processes: {num}" in text for text in printed), printed
    return printed


def _lines(path, name):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def _weights_agree(one, two, step):
    first, second = (load_file(path / f"checkpoints/step-{step:06d}/live.safetensors") for path in (one, two))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], atol=1e-4, rtol=1e-3)


def _moves(path):
    return [
        (row["step"], row["deal"], [turn["move"] for turn in row["turns"]]) for row in _lines(path, "episodes.jsonl")
    ]


def test_two_processes_train_what_one_would(tmp_path):
    """The same games, and weights that differ by rounding."""
    for num in (1, 2):
        _run(num, "train", tmp_path / str(num), *SMALL, "advantage=rae")
    assert _moves(tmp_path / "1") == _moves(tmp_path / "2")
    _weights_agree(tmp_path / "1", tmp_path / "2", 3)


def test_two_processes_roll_back_together(tmp_path):
    """Back to step 2, the newest checkpoint up to step 3, both of them, and on from there as one process would."""
    words = [*SMALL, "steps=8", "pool.every=3", "health={action: rollback, fallback: fixed, max_rollbacks: 1}"]
    for num in (1, 2):
        path = tmp_path / str(num)
        _run(num, "collapse", path, *words)
        assert [line["step"] for line in _lines(path, "metrics.jsonl")] == list(range(8))
        assert [line["step"] for line in _lines(path, "abandoned-1.jsonl")] == [2, 3, 4, 5]
        assert [(e["step"], e["action"]) for e in _lines(path, "events.jsonl")] == [(5, "rollback"), (5, "note")]
        assert _lines(path, "events.jsonl")[0]["back_to"] == 2
    assert _moves(tmp_path / "1") == _moves(tmp_path / "2")
    assert any("bot:random" in row["policies"] for row in _lines(tmp_path / "2", "episodes.jsonl"))
    _weights_agree(tmp_path / "1", tmp_path / "2", 8)


def test_voided_games_are_counted_over_all_processes(tmp_path):
    """Each process alone stays within what is allowed, and together they do not: both stop, with one sentence."""
    words = [*SMALL, "rollout.episodes=64", "rollout.max_voided=100", "warm_start.max_steps=0"]
    _run(2, "broken", tmp_path / "many", "0.4", *words)
    by_step = [sum(row["step"] == step for row in _lines(tmp_path / "many", "voided.jsonl")) for step in range(3)]
    voided = by_step[0]
    limit = f"rollout.max_voided={voided - 1}"  # more than the half that each process voided
    printed = _run(2, "broken", tmp_path / "few", "0.4", *words, limit)
    for text in printed:
        assert f"stopped: {voided} games of one step had to be voided" in text


def test_a_process_that_stops_takes_the_others_along(tmp_path):
    """One that waited for the games of the other would wait for ever."""
    words = [*SMALL, "rollout.max_voided=4", "warm_start.max_steps=0"]
    for text in _run(2, "broken", tmp_path / "r", "1.0", *words):
        assert "stopped: 5 games of one step had to be voided" in text
