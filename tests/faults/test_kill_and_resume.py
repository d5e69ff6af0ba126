"""A run killed at any moment and resumed gives the same bits as one that was not; the same seed gives the same run.

The real command in a process of its own, ended by SIGKILL: no handler runs and nothing is flushed. Moments are given
by how far the run has come: once metrics.jsonl shows a step, and then a share of the time that a step takes, so that
some fall into play, some into the update and some into the writing of a checkpoint.
"""

import itertools
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

STEPS = 12
CONFIG = [
    f"steps={STEPS}", "rollout.episodes=32", "checkpoint.every=3", "checkpoint.keep=0", "checkpoint.episodes=4",
    "warm_start.max_steps=50", "loggers=[]", "evaluate.every=4", "evaluate.matches=4", "learner.reference_every=5",
    "opponents={name: pfsp, args: {mirror: 0.3}}", "pool={every: 2, size: 3, members: [random, equilibrium]}",
]  # fmt: skip
MIXED = [
    *CONFIG, "rollout.episodes=200", "games=[kuhn_poker,tic_tac_toe]", "engine.args.max_rows=24",
    "rollout.max_concurrent=90", "checkpoint.every=2", "learner.ema=0.9", "opponents=league", "curriculum=balanced_tokens",
    "advantage=turn_gae", "pool={every: 1, size: 2, keep: best, members: [random]}",
]  # fmt: skip
ROLES = [
    *CONFIG, "opponents={name: roles, args: {players: [learner, second]}}", "pool={every: 0}",
    "learners=[{name: second, advantage: {name: rae}, settings: {lr: 0.002, ema: 0}}]",
]  # fmt: skip
LEAGUE = [
    *CONFIG, "evaluate.every=12", "opponents={name: league, args: {roles: {ex: main_exploiter, wide: league_exploiter}}}",
    "learners=[{name: ex, reset_every: 5, share: 0.5}, {name: wide, settings: {kl: 0.2}}]", "pool={every: 2, size: 3}",
]  # fmt: skip


def _start(run_dir, cache, *words):
    env = {
        **os.environ, "SPIRAL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "spiral", "train", "--run-dir", str(run_dir), *words]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _finish(process):
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out[-3000:]


def _lines(run_dir):
    """Whole lines of metrics.jsonl that end in a line break."""
    path = run_dir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def _kill_at(process, run_dir, lines, delay_s):
    """SIGKILL once `lines` lines stand in metrics.jsonl and `delay_s` has passed; whether it was still running."""
    deadline = time.monotonic() + 200
    while _lines(run_dir) < lines and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay_s)
    running = process.poll() is None
    if running:
        process.send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGKILL), out[-3000:]
    return running


def _tensors(path):
    """Every tensor and value of a checkpoint, by name."""
    found = {}
    for file in sorted(path.rglob("*.safetensors")):
        found |= {f"{file.relative_to(path)}:{name}": t for name, t in load_file(file).items()}
    for file in sorted(path.rglob("optimizer.pt")):
        for index, entries in torch.load(file, weights_only=True)["state"].items():
            place = f"{file.relative_to(path)}/{index}"
            found |= {f"{place}/{name}": torch.as_tensor(value) for name, value in entries.items()}
    return found


def _same_checkpoint(one, other):
    mine, theirs = _tensors(one), _tensors(other)
    assert mine.keys() == theirs.keys()
    different = [name for name in mine if mine[name].numpy().tobytes() != theirs[name].numpy().tobytes()]
    assert different == []
    for file in sorted(one.rglob("state.json")):
        assert file.read_text() == (other / file.relative_to(one)).read_text()


def _metrics(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "speed/"))} for line in lines]


def _same_run(one, other):
    """Metrics but for the clock, episodes, the last policy and every checkpoint, byte for byte."""
    mine, theirs = _metrics(one), _metrics(other)
    assert [line["step"] for line in mine] == list(range(STEPS + 1))
    for a, b in zip(mine, theirs, strict=True):
        assert a == b
    for name in ("episodes.jsonl", "policy.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    mine, theirs = (sorted(p.name for p in (r / "checkpoints").glob("step-*")) for r in (one, other))
    assert mine == theirs
    for name in mine:
        _same_checkpoint(one / "checkpoints" / name, other / "checkpoints" / name)


def _same_pool(one, other):
    """What is known of the opponents, and the weights of every snapshot on disk."""
    assert (one / "pool.json").read_text() == (other / "pool.json").read_text()
    files = ((r / "snapshots", sorted((r / "snapshots").rglob("*.safetensors"))) for r in (one, other))
    mine, theirs = ({str(p.relative_to(folder)): p.read_bytes() for p in paths} for folder, paths in files)
    assert mine == theirs
    assert len(mine) >= 3


def _killed(run_dir, cache, config, moments, step_s):
    """A run that is killed at each of the moments (lines of metrics, share of a step) and resumed until it is done."""
    words, landed = config, 0
    for lines, share in moments:
        landed += _kill_at(_start(run_dir, cache, *words), run_dir, lines, share * step_s)
        words = ["--resume"]
        if not (run_dir / "config.yaml").exists():
            words = config
    _finish(_start(run_dir, cache, *words))
    return landed


def _timed(run_dir, cache, config):
    """Run to the end; seconds a step takes."""
    _finish(_start(run_dir, cache, *config))
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return sum(line.get("time/step_s", 0.0) for line in lines) / STEPS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, its cache of warm starts, and the seconds of a step."""
    folder = tmp_path_factory.mktemp("whole")
    step_s = _timed(folder / "run", folder / "cache", CONFIG)
    return folder / "run", folder / "cache", step_s


def test_the_same_seed_is_the_same_run(whole, tmp_path):
    """Twice the same config, the warm start included: the same bits everywhere."""
    run, _, _ = whole
    _finish(_start(tmp_path / "again", tmp_path / "cache", *CONFIG))
    _same_run(run, tmp_path / "again")


def test_a_run_killed_twice_is_the_same_run(whole, tmp_path):
    """Killed between two checkpoints, right after a snapshot was taken, and again while a checkpoint is due; then resumed
    to the end. Snapshots, results and ratings too."""
    run, cache, step_s = whole
    assert _killed(tmp_path / "run", cache, CONFIG, [(4, 0.0), (8, 0.95)], step_s) == 2
    _same_run(run, tmp_path / "run")
    _same_pool(run, tmp_path / "run")


@pytest.mark.parametrize(
    ("config", "learners"),
    [pytest.param(ROLES, ["second"], marks=pytest.mark.slow), (LEAGUE, ["ex", "wide"])],
    ids=["roles", "league"],
)
def test_a_run_of_several_policies_killed_is_the_same_run(config, learners, tmp_path):
    """A policy a player, with another estimator and without an average; and a league, whose exploiter goes back to its
    first weights at steps 5 and 10, killed between them."""
    step_s = _timed(tmp_path / "whole", tmp_path / "cache", config)
    assert _killed(tmp_path / "run", tmp_path / "cache", config, [(8, 0.5)], step_s) == 1
    _same_run(tmp_path / "whole", tmp_path / "run")
    kept = tmp_path / "run" / "checkpoints" / f"step-{STEPS:06d}" / "learners"
    assert sorted(path.name for path in kept.iterdir()) == learners
    if config is LEAGUE:
        _same_pool(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_run_killed_at_many_moments_is_the_same_run(tmp_path):
    """A mixture of games with too few rows for all texts, killed 8 times: in the warm start, play, update and saving."""
    whole_dir, cache = tmp_path / "whole", tmp_path / "cache"
    step_s = _timed(whole_dir, cache, MIXED)
    shares = itertools.cycle((0.0, 0.35, 0.01, 0.8, 0.05))
    moments = [(0, 6.0 / step_s), *zip((1, 2, 4, 6, 7, 10, 12), shares, strict=False)]
    assert _killed(tmp_path / "run", tmp_path / "other_cache", MIXED, moments, step_s) >= 6
    _same_run(whole_dir, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", ["textarena_nim", "textarena_snake", "textarena_frozen_lake", "leduc_openspiel", "five_games"]
)
def test_a_recipe_killed_and_resumed_is_the_same_run(recipe, tmp_path):
    """Games of other libraries, with chance of their own, a pool and several games at once: shrunk, killed, resumed."""
    words = [
        str(Path(__file__).parents[2] / "recipes" / recipe / "config.yaml"), f"steps={STEPS}", "rollout.episodes=16",
        "checkpoint.every=3", "checkpoint.keep=0", "checkpoint.episodes=4", "warm_start.max_steps=50", "loggers=[]",
        "evaluate.every=6", "evaluate.matches=2", "pool.every=2", "pool.size=3",
    ]  # fmt: skip
    step_s = _timed(tmp_path / "whole", tmp_path / "cache", words)
    assert _killed(tmp_path / "run", tmp_path / "cache", words, [(4, 0.3)], step_s) == 1
    _same_run(tmp_path / "whole", tmp_path / "run")
    _same_pool(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_another_seed_is_another_run(whole, tmp_path):
    """The comparison can fail: with seed 1 a shorter run has other weights."""
    run, _, _ = whole
    words = [*CONFIG, "seed=1", "steps=3", "evaluate.every=0", "warm_start.max_steps=0"]
    _finish(_start(tmp_path / "other", tmp_path / "cache", *words))
    mine, theirs = (_tensors(r / "checkpoints" / "step-000003") for r in (run, tmp_path / "other"))
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)
