"""Runs on a local Ray cluster: the games of one process, whoever is killed on the way. `make ray` runs them."""

import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from spiral.runs.checkpoints import evaluated_weights
from tests.faults.ray_kills import MARK, command, games, kill_some, lines, processes, start

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "rollout.episodes=64", "warm_start.max_steps=50", "warm_start.batch=64", "evaluate.opponents=[]",
    "checkpoint.episodes=64", "loggers=[]",
]  # fmt: skip


def _train(path, *words, code=0):
    done = subprocess.run(
        command(path, *words), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        env={**os.environ, MARK: path.name},
    )  # fmt: skip
    assert done.returncode == code, done.stdout[-4000:]
    return done.stdout


def _ray(**args):
    return f"cluster={{name: ray, args: {{{', '.join(f'{key}: {value}' for key, value in args.items())}}}}}"


def _moves(path):
    return [
        (row["step"], row["deal"], [turn["move"] for turn in row["turns"]]) for row in lines(path, "episodes.jsonl")
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Five steps in one process."""
    path = tmp_path_factory.mktemp("alone") / "r"
    _train(path, *SMALL, "steps=5", "evaluate.every=5", "pool.every=2", "opponents=mixture")
    return path


@pytest.mark.parametrize(
    ("engines", "learners", "sharded", "workers"),
    [(2, 1, "false", 0), (2, 1, "false", 2), (2, 2, "false", 0), (2, 2, "true", 1), (0, 2, "false", 0)],
)
def test_synchronous_steps_are_those_of_one_process(alone, tmp_path, engines, learners, sharded, workers):
    """Engines that play, or answer workers that do, or none but those of the learner's processes; of those one, or two
    with a copy each or with a part; snapshots in the pool: the same games, and weights, figures and snapshots that
    differ by rounding."""
    path = tmp_path / "r"
    printed = _train(
        path,
        *SMALL,
        "steps=5",
        "evaluate.every=5",
        "pool.every=2",
        "opponents=mixture",
        _ray(engines=engines, learners=learners, sharded=sharded, workers=workers),
    )
    assert _moves(path) == _moves(alone)
    one, two = (evaluated_weights(run / "checkpoints" / "step-000005") for run in (alone, path))
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], atol=1e-4, rtol=1e-3)
    assert load_file(path / "snapshots" / "step-000002.safetensors").keys() == one.keys()
    for first, second in zip(lines(alone, "metrics.jsonl"), lines(path, "metrics.jsonl"), strict=True):
        for name in (name for name in first if "nash_conv" in name or name in ("learner/reply_tokens", "games")):
            assert first[name] == pytest.approx(second[name], abs=1e-3), name
    assert f"open {path / 'report.html'}" in printed


def test_thirty_kills(tmp_path):
    """Engines and learners killed at random, each after the run went on: it ends, every step has its games once, and
    they are those of a run that was left alone."""
    words = [*SMALL, "evaluate.every=0", "checkpoint.every=5", "steps=4000"]
    path, process = tmp_path / "killed", None
    process = start(path, *words, _ray(engines=2))
    killed = kill_some(process, path, 30, random.Random(0), share=0.2)
    assert process.poll() is None, process.communicate()[0][-4000:]
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0]
    steps = [line["step"] for line in lines(path, "metrics.jsonl")]
    assert steps == list(range(len(steps)))
    assert killed.total() == 30
    assert min(killed.values()) > 2
    _train(tmp_path / "alone", *words, f"steps={len(steps)}")
    assert games(path) == games(tmp_path / "alone")
    lost, restarts = printed.count("was lost with"), printed.count("learner's processes were lost")
    print(json.dumps({"killed": killed, "steps": len(steps), "engines told lost": lost, "learner starts": restarts}))
    assert lost >= killed["engine"] / 2  # one that is killed while it starts had no games
    assert restarts >= 1


def test_kills_of_engines_and_of_the_workers_that_ask_them(tmp_path):
    """Eight of either: the games are those of a run that was left alone."""
    words = [*SMALL, "evaluate.every=0", "checkpoint.every=5", "steps=4000"]
    path = tmp_path / "killed"
    process = start(path, *words, _ray(engines=2, workers=2))
    killed = kill_some(process, path, 8, random.Random(1), share=0.0)
    assert process.poll() is None, process.communicate()[0][-4000:]
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0]
    steps = len(lines(path, "metrics.jsonl"))
    assert killed == {"engine": 8}
    assert "worker-" in printed
    assert "engine-" in printed
    _train(tmp_path / "alone", *words, f"steps={steps}")
    assert games(path) == games(tmp_path / "alone")


def test_the_head_is_killed_and_the_run_resumed(tmp_path):
    """SIGKILL for everything at once, in step 6 or later; the same command with --resume ends the run, and its games
    are those of one that was left alone."""
    words = [*SMALL, "evaluate.every=0", "checkpoint.every=3", "steps=12"]
    path = tmp_path / "killed"
    process = start(path, *words, _ray(engines=2), "rollout.episodes=512", "checkpoint.episodes=8")
    deadline = time.monotonic() + 120
    while len(lines(path, "metrics.jsonl")) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    raylets = subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.PIPE, text=True).stdout.split()
    for pid in (process.pid, *map(int, raylets), *processes(path.name)):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert 5 <= len(lines(path, "metrics.jsonl")) < 12
    done = subprocess.run(
        [sys.executable, "-m", "spiral", "train", "--run-dir", path, "--resume"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, env={**os.environ, MARK: path.name},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert [line["step"] for line in lines(path, "metrics.jsonl")] == list(range(12))
    _train(tmp_path / "alone", *words, "rollout.episodes=512", "checkpoint.episodes=8")
    assert games(path) == games(tmp_path / "alone")


def test_more_than_the_cluster_has_is_one_sentence(tmp_path):
    """What is there and what is asked for, before a process is started; nothing is left behind."""
    printed = _train(tmp_path / "r", *SMALL, _ray(engines=3, engine_gpus=1), code=2)
    [line] = [line for line in printed.splitlines() if line.startswith("spiral: ")]
    assert "3 GPUs are asked for (3 engines take 3, 1 learners take 0), and the cluster has 0" in line
    assert not (tmp_path / "r").exists()


def test_a_game_that_fails_on_the_players_is_told_as_here(tmp_path):
    """A mistake of the user that only play shows: the sentence of one process, exit code 2, and no restart."""
    words = [*SMALL, "rollout.max_voided=0", "rollout.cut=void", "rollout.max_turns=1", "warm_start.max_steps=50"]
    here = _train(tmp_path / "here", *words, code=2)
    there = _train(tmp_path / "there", *words, _ray(engines=2), code=2)
    sentences = [[line for line in text.splitlines() if line.startswith("spiral: ")] for text in (here, there)]
    assert len(sentences[0]) == len(sentences[1]) == 1
    # Those of a report come together, so there may be more than the first one too many.
    assert re.search(r"\d+ games of one step had to be voided, the last one kuhn_poker", sentences[1][0])


def test_nodes_join_and_leave(tmp_path):
    """A cluster of one node, to which a second one comes and from which it goes, killed, while `engines: all` trains:
    players start there, their games are played elsewhere when they are gone, and the games are those of one process."""
    from ray.cluster_utils import Cluster

    path, words = tmp_path / "r", [*SMALL, "evaluate.every=0", "steps=4000", "checkpoint.every=50"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        process = start(path, *words, _ray(engines="all", address=f"'{cluster.address}'"))
        _grown(path, process, 10)
        assert len({lane for lane in _lanes(path) if lane != "learner"}) == 1
        node = cluster.add_node(num_cpus=2)
        deadline = time.monotonic() + 120
        while len({*_lanes(path)}) < 4 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert {"engine-0", "engine-1", "engine-2"} < {*_lanes(path)}
        cluster.remove_node(node, allow_graceful=False)
        _grown(path, process, 30)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=120)[0]
    finally:
        cluster.shutdown()
    assert "was lost with" in printed
    steps = len(lines(path, "metrics.jsonl"))
    _train(tmp_path / "alone", *words, f"steps={steps}")
    assert games(path) == games(tmp_path / "alone")


def _lanes(path):
    return [span[0] for row in lines(path, "timeline.jsonl")[-50:] for span in row["spans"]]


def _grown(path, process, num):
    """Until so many more steps are done."""
    before, deadline = len(lines(path, "metrics.jsonl")), time.monotonic() + 180
    while len(lines(path, "metrics.jsonl")) < before + num:
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


NIXL = pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="needs nixl")


@NIXL
def test_weights_that_players_read_themselves_play_the_same_games(alone, tmp_path):
    """Over NIXL, from the learner's main memory, by two engines: the games of one process, snapshots among the
    opponents, which go through the store."""
    path = tmp_path / "r"
    words = ["steps=5", "evaluate.every=5", "pool.every=2", "opponents=mixture"]
    _train(path, *SMALL, *words, _ray(engines=2, transport="nixl"))
    assert _moves(path) == _moves(alone)


@NIXL
def test_kills_while_players_read_weights_themselves(tmp_path):
    """Eight kills of engines and learners, some of them in the middle of a read: the games of a run left alone."""
    words = [*SMALL, "evaluate.every=0", "checkpoint.every=5", "steps=4000"]
    path = tmp_path / "killed"
    process = start(path, *words, _ray(engines=2, transport="nixl"))
    killed = kill_some(process, path, 8, random.Random(1), share=0.4)
    assert process.poll() is None, process.communicate()[0][-4000:]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    steps = [line["step"] for line in lines(path, "metrics.jsonl")]
    assert steps == list(range(len(steps)))
    assert min(killed["engine"], killed["learner"]) > 0
    _train(tmp_path / "alone", *words, f"steps={len(steps)}")
    assert games(path) == games(tmp_path / "alone")


def test_a_transport_that_is_not_installed_is_one_sentence(tmp_path):
    """The node, what it lacks and what installs it, before a step."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "nixl.py").write_text("raise ImportError('no build for this CUDA')\n", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'without'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        command(tmp_path / "r", *SMALL, _ray(engines=1, transport="nixl")), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=300, env={**env, MARK: tmp_path.name},
    )  # fmt: skip
    assert done.returncode == 2, done.stdout[-4000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("spiral: ")]
    assert "cluster.args.transport=nixl, on" in line
    assert "nixl cannot be loaded (no build for this CUDA)" in line
