"""Two processes on the CPU (gloo): they train what one would, roll back together, and stop together.

They are started by the documented command, torchrun; each test checks that there were two. What a launcher was asked
for and does not give is refused: each process would be a run of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SMALL = [
    "steps=3", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=0", "checkpoint.every=2", "checkpoint.keep=0", "checkpoint.episodes=8", "loggers=[]",
    "evaluate.opponents=[]",
]  # fmt: skip

RUN = """
import os
import sys
from dataclasses import replace
from pathlib import Path
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
if what == "not finite":
    from spiral.learning.full_learner import FullLearner
    from spiral.learning.policy_loss import PolicyLoss
    forward, update, steps = PolicyLoss.forward, FullLearner.update, [0]

    def poisoned(self, *inputs):
        terms = forward(self, *inputs)
        bad = steps[-1] == 1 and os.environ["RANK"] == "1"
        return replace(terms, objective=terms.objective * float("nan")) if bad else terms

    def telling(self, batch, step, num_games):
        steps.append(step)
        stats = update(self, batch, step, num_games)
        sums = [weight.double().abs().sum().item() for weight in self.weights().values()]
        os.write(1, f"after {step}: {sum(sums):.12f}\\n".encode())
        return stats

    PolicyLoss.forward, FullLearner.update = poisoned, telling
try:
    launch.launch(None, words, Path(path), False, quiet=True)
except SpiralError as error:
    os.write(1, f"stopped: {error}\\n".encode())
"""


TELL = """
import atexit, os, sys

@atexit.register
def tell():
    if "accelerate" in sys.modules:
        from accelerate import PartialState
        os.write(1, f"processes: {PartialState().num_processes}\\n".encode())  # at once, or two lines may mix
"""
"""As sitecustomize.py: each process of any command says at its end how many there were."""


def _env(tmp_path, **more):
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / "sitecustomize.py").write_text(TELL)
    (tmp_path / "site" / "run.py").write_text(RUN)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": path,
        **more,
    }


def _launcher(name, *words):
    """torchrun or accelerate of this very interpreter."""
    module = {"torchrun": ["torch.distributed.run"], "accelerate": ["accelerate.commands.accelerate_cli"]}[name]
    return [sys.executable, "-m", *module, *map(str, words)]


def _run(num, what, path, *words):
    """What `num` processes printed together; every one ends by itself."""
    command = ["run.py", what, path, *words]
    done = subprocess.run(
        _launcher("torchrun", "--nproc_per_node", num, path.parent / "site" / command[0], *command[1:]),
        env=_env(path.parent), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count(f"processes: {num}") == num, done.stdout
    return done.stdout


def _lines(path, name):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def _weights_agree(one, two, step, file="live.safetensors"):
    first, second = (load_file(path / f"checkpoints/step-{step:06d}" / file) for path in (one, two))
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


@pytest.mark.slow
def test_two_processes_learn_from_games_what_one_would(tmp_path):
    """`spiral sft` under torchrun: the same games in each step, each process with a part of them; weights, loss and
    held-out loss differ by rounding."""
    games = tmp_path / "games.jsonl"
    small = ["steps=4", "rollout.episodes=9", "evaluate.every=2", "evaluate.opponents=[]", "checkpoint.every=2"]
    commands = {"collect": ["equilibrium", "--games", "kuhn_poker", "--num", 30, "--keep", "all", "--out", games]}
    commands |= {num: [games, *small, "loggers=[]", "--run-dir", tmp_path / str(num)] for num in (1, 2)}
    for name, words in commands.items():
        start = [sys.executable, "-m", "spiral", "collect"]
        if name in (1, 2):
            start = _launcher("torchrun", "--nproc_per_node", name, "-m", "spiral", "sft")
        done = subprocess.run(
            [*start, *map(str, words)], env=_env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        assert name == "collect" or done.stdout.count(f"processes: {name}") == name
    # Supervised training keeps no average, so its live weights are the model's.
    _weights_agree(tmp_path / "1", tmp_path / "2", 4, "model/model.safetensors")
    one, two = (_lines(tmp_path / str(num), "metrics.jsonl") for num in (1, 2))
    assert [line["step"] for line in two] == [0, 1, 2, 3, 4]
    evaluated = [f"eval/kuhn_poker/{name}" for name in ("held_out_loss", "held_out_accuracy", "nash_conv")]
    for name in ("learner/nll", "learner/reply_tokens", "examples/turns", *evaluated):
        told = [[line[name] for line in lines if name in line] for lines in (one, two)]
        assert told[0]
        assert told[1] == pytest.approx(told[0], rel=1e-3)


@pytest.mark.slow
def test_two_processes_learn_from_text_what_one_would(tmp_path):
    """`spiral pretrain` under torchrun: the same rows in each step, each process with a part of them; an epoch is as
    many steps, and text, samples and bits per byte are the same but for rounding."""
    text = tmp_path / "text"
    text.write_text("\n".join(f"Line {line} says {line * line}." for line in range(200)), encoding="utf-8")
    small = [
        "model=byte-0.1m",
        "text.row_tokens=64",
        "text.step_tokens=576",
        "evaluate.every=4",
        "checkpoint.every=100",
    ]
    for num in (1, 2):
        words = [text, *small, "loggers=[]", "--run-dir", tmp_path / str(num)]
        start = _launcher("torchrun", "--nproc_per_node", num, "-m", "spiral", "pretrain")
        done = subprocess.run(
            [*start, *map(str, words)], env=_env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        assert done.stdout.count(f"processes: {num}") == num
    one, two = (_lines(tmp_path / str(num), "metrics.jsonl") for num in (1, 2))
    assert len(one) == len(two) > 4
    _weights_agree(tmp_path / "1", tmp_path / "2", len(one) - 1, "model/model.safetensors")
    for name in ("learner/nll", "learner/reply_tokens", "text/epoch", "eval/bits_per_byte", "eval/bits_per_byte_xz"):
        told = [[line[name] for line in lines if name in line] for lines in (one, two)]
        assert told[0]
        assert told[1] == pytest.approx(told[0], rel=1e-3)
    prompts = [[row["prompt"] for row in _lines(tmp_path / str(num), "samples.jsonl")] for num in (1, 2)]
    assert prompts[0] == prompts[1]


@pytest.mark.slow
def test_two_processes_roll_back_together(tmp_path):
    """Back to step 2, the newest checkpoint up to step 3, both of them, and on from there as one process would."""
    words = [*SMALL, "steps=8", "pool.every=3", "health={action: rollback, fallback: fixed, max_rollbacks: 1}"]
    for num in (1, 2):
        path = tmp_path / str(num)
        _run(num, "collapse", path, *words)
        assert [line["step"] for line in _lines(path, "metrics.jsonl")] == list(range(8))
        assert [line["step"] for line in _lines(path, "abandoned-1.jsonl")] == [2, 3, 4, 5]
        collapses = [e for e in _lines(path, "events.jsonl") if e["severity"] == "collapse"]
        assert [(e["step"], e["action"]) for e in collapses] == [(5, "rollback"), (5, "note")]
        assert collapses[0]["back_to"] == 2
    assert _moves(tmp_path / "1") == _moves(tmp_path / "2")
    assert any("bot:random" in row["policies"] for row in _lines(tmp_path / "2", "episodes.jsonl"))
    _weights_agree(tmp_path / "1", tmp_path / "2", 8)


@pytest.mark.slow
def test_voided_games_are_counted_over_all_processes(tmp_path):
    """Each process alone stays within what is allowed, and together they do not: both stop, with one sentence."""
    words = [*SMALL, "rollout.episodes=64", "rollout.max_voided=100", "warm_start.max_steps=0"]
    _run(2, "broken", tmp_path / "many", "0.4", *words)
    by_step = [sum(row["step"] == step for row in _lines(tmp_path / "many", "voided.jsonl")) for step in range(3)]
    voided = by_step[0]
    limit = f"rollout.max_voided={voided - 1}"  # more than the half that each process voided
    printed = _run(2, "broken", tmp_path / "few", "0.4", *words, limit)
    assert printed.count(f"stopped: {voided} games of one step had to be voided") == 2


def test_a_loss_that_is_not_finite_in_one_process_is_refused_by_all(tmp_path):
    """The second process's loss of step 1 is no number: that step leaves the weights of both as they were, and the next
    one is taken by both."""
    printed = _run(2, "not finite", tmp_path / "r", *SMALL)
    assert [line["learner/refused"] for line in _lines(tmp_path / "r", "metrics.jsonl")] == [0, 1, 0]
    sums = [{line for line in printed.splitlines() if line.startswith(f"after {step}:")} for step in range(3)]
    assert [len(of_step) for of_step in sums] == [1, 1, 1]
    values = [float(of_step.pop().split()[-1]) for of_step in sums]
    assert values[0] == values[1] != values[2]


def test_a_process_that_stops_takes_the_others_along(tmp_path):
    """One that waited for the games of the other would wait for ever."""
    words = [*SMALL, "rollout.max_voided=4", "warm_start.max_steps=0"]
    printed = _run(2, "broken", tmp_path / "r", "1.0", *words)
    assert printed.count("stopped: 5 games of one step had to be voided") == 2


def test_the_documented_command_trains_with_two_processes(tmp_path):
    """Word for word as the README has it, but for the directory and a smaller run: two processes, one run."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [line] = [line for line in readme.splitlines() if line.startswith("torchrun ")]
    launcher, *words = line.partition("#")[0].split()
    assert words[-2:] == ["--run-dir", "runs/two"]
    words = [*words[:-1], tmp_path / "two", *SMALL]
    done = subprocess.run(
        _launcher(launcher, *words), env=_env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("processes: 2") == 2
    assert [line["step"] for line in _lines(tmp_path / "two", "metrics.jsonl")] == [0, 1, 2]
    assert done.stdout.count(f"open {tmp_path / 'two' / 'report.html'}") == 1


@pytest.mark.parametrize(
    ("launcher", "env", "sentence"),
    [
        (
            ["accelerate", "launch", "--num_processes", "2", "-m"],
            {},
            "accelerate launch was asked for several processes",
        ),
        ([], {"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, and no RANK tells the processes apart"),
        ([], {"OMPI_COMM_WORLD_SIZE": "2"}, "MPI started several processes"),
    ],
)
def test_a_launcher_that_does_not_give_what_was_asked_is_refused(tmp_path, launcher, env, sentence):
    """Not one process where two were asked for, and not two runs in one directory; nothing is left there."""
    words = ["spiral", "train", "--run-dir", str(tmp_path / "r"), *SMALL]
    command = _launcher(*launcher, *words) if launcher else [sys.executable, "-m", *words]
    done = subprocess.run(command, env=_env(tmp_path, **env), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if line.startswith("spiral: ")]
    assert sentence in line
    assert line.endswith("torchrun --nproc_per_node 2 -m spiral train --run-dir DIR")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("whom", ["launcher", "second"])
def test_a_signal_stops_both_processes_with_one_checkpoint(tmp_path, whom):
    """Sent to torchrun, which tells both, or to one of them alone: both end the same step, and the run goes on."""
    path = tmp_path / "r"
    words = [*SMALL, "steps=100000", "checkpoint.every=100000"]
    process = subprocess.Popen(
        _launcher("torchrun", "--nproc_per_node", 2, "-m", "spiral", "train", "--run-dir", path, *words),
        env=_env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    log, deadline = path / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    if whom == "launcher":
        process.send_signal(signal.SIGTERM)
    else:
        os.kill(_second_of(process.pid), signal.SIGTERM)
    printed, _ = process.communicate(timeout=100)
    steps = [line["step"] for line in _lines(path, "metrics.jsonl")]
    assert steps == list(range(len(steps)))
    assert [p.name for p in (path / "checkpoints").iterdir()] == [f"step-{len(steps):06d}"], printed[-3000:]
    assert printed.count(f"stopped; the run goes on at step {len(steps)} with: ") == 1


def _second_of(parent):
    """The process of rank 1 that torchrun, the process `parent`, started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, env = (folder / "status").read_text(), (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in status and b"RANK=1" in env:
            return int(folder.name)
    raise AssertionError(f"process {parent} has no child of rank 1")
