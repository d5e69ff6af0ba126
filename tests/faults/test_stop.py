"""Ctrl-C and SIGTERM lose nothing that was learned: the step ends, a checkpoint is written, and the run goes on from it
as if it had never been stopped. The second signal stops at once.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from spiral.api.errors import Stopped
from spiral.api.hooks import hookimpl
from spiral.commands.main import main
from spiral.config.loading import load
from spiral.learning import supervised, warm_start
from spiral.learning.full_learner import FullLearner
from spiral.learning.stop_signals import NUMBERS, StopRequested, StopSignals
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.selfplay.rollouts import Rollouts
from spiral.training.launch import launch
from spiral.training.loop import train

SMALL = [
    "steps=5", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "warm_start.legal=1", "evaluate.every=2", "evaluate.matches=2", "checkpoint.every=100", "checkpoint.keep=0",
    "checkpoint.episodes=8", "loggers=[]",
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("foreground_signals")


def _lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _steps(run):
    return [line["step"] for line in _lines(run)]


def _checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").glob("*"))


def _same(one, other):
    """Metrics but for the clock, episodes, and the last checkpoint, byte for byte."""
    for a, b in zip(_lines(one), _lines(other), strict=True):
        assert {k: v for k, v in a.items() if not k.startswith(("time/", "speed/"))} == {
            k: v for k, v in b.items() if not k.startswith(("time/", "speed/"))
        }
    for name in ("episodes.jsonl", "checkpoints/step-000005/live.safetensors", "checkpoints/step-000005/state.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def _at_call(monkeypatch, owner, name, call, numbers, before=True):
    """Have signals arrive as `owner.name` is called for the `call`-th time, or as it ends."""
    real, calls = getattr(owner, name), []

    def signalled(*args, **kwargs):
        calls.append(1)
        result = None if before else real(*args, **kwargs)
        for number in numbers if len(calls) == call else ():
            os.kill(os.getpid(), number)
        return real(*args, **kwargs) if before else result

    monkeypatch.setattr(owner, name, signalled)
    return lambda: monkeypatch.setattr(owner, name, real)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    launch(None, SMALL, path, False, quiet=True)
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_stops_with_a_checkpoint_and_a_code(tmp_path, number, code):
    """By the real command: a checkpoint of the step that had begun, its number in the message, the shell's exit code."""
    words = [*SMALL, "steps=5000", "evaluate.every=0", "rollout.episodes=64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "spiral", "train", "--run-dir", str(tmp_path / "run"), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    log, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    step = len(_steps(tmp_path / "run"))
    assert "stopping: the step ends and a checkpoint is written, within about " in err
    command = f"spiral train --run-dir {tmp_path / 'run'} --resume"
    assert err.splitlines()[-1] == f"spiral: stopped; the run goes on at step {step} with: {command}"
    assert _checkpoints(tmp_path / "run") == [f"step-{step:06d}"]


@pytest.mark.parametrize(
    ("owner", "name", "call", "before", "step"),
    [
        (Rollouts, "play", 1, True, 0),  # in the evaluation of step 0
        (Rollouts, "play", 8, True, 3),  # in play: given up
        (Rollouts, "play", 8, False, 3),  # the games are over, but still to be given up
        (FullLearner, "update", 3, True, 3),  # the update of step 2 is finished
    ],
)
def test_a_run_that_was_stopped_is_the_run_that_was_not(tmp_path, monkeypatch, whole, owner, name, call, before, step):
    """Wherever the signal arrives: no step is lost, none is counted twice, and the same bits come out."""
    path = tmp_path / "run"
    undo = _at_call(monkeypatch, owner, name, call, [signal.SIGTERM], before)
    with pytest.raises(Stopped, match=f"stopped; the run goes on at step {step} with: spiral train") as caught:
        launch(None, SMALL, path, False, quiet=True)
    assert caught.value.exit_code == 143
    undo()
    assert _checkpoints(path) == [f"step-{step:06d}"]
    assert (path / "report.html").exists()
    launch(None, [], path, True, quiet=True)
    _same(path, whole)


def test_in_the_warm_start_nothing_is_kept_and_the_message_says_so(tmp_path, monkeypatch, whole):
    """There is no step yet; the directory stays, and `--resume` starts it anew."""
    path = tmp_path / "run"
    undo = _at_call(monkeypatch, warm_start, "likelihood_step", 2, [signal.SIGINT])
    assert warm_start.likelihood_step is not supervised.likelihood_step
    with pytest.raises(
        Stopped, match="stopped; the run starts over, since there is no checkpoint yet, with: "
    ) as caught:
        launch(None, SMALL, path, False, quiet=True)
    assert caught.value.exit_code == 130
    undo()
    assert _checkpoints(path) == []
    launch(None, [], path, True, quiet=True)
    _same(path, whole)


def test_the_second_signal_stops_at_once(tmp_path, monkeypatch):
    """In an update, which the first would let end: no checkpoint of a state between two steps."""
    path = tmp_path / "run"
    _at_call(monkeypatch, FullLearner, "update", 3, [signal.SIGINT, signal.SIGTERM])
    with pytest.raises(Stopped, match="starts over, since there is no checkpoint yet") as caught:
        launch(None, SMALL, path, False, quiet=True)
    assert caught.value.exit_code == 143
    assert _checkpoints(path) == []
    assert _steps(path) == [0, 1]


def test_after_the_last_step_nothing_is_left_to_stop(tmp_path, monkeypatch):
    """A run whose last update was under way is a finished run."""
    _at_call(monkeypatch, FullLearner, "update", 2, [signal.SIGTERM])
    launch(None, [*SMALL, "steps=2", "evaluate.every=0"], tmp_path / "run", False, quiet=True)
    assert _steps(tmp_path / "run") == [0, 1]


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path):
    """As in a notebook's worker: no handler is set, and training goes on to its end."""
    before = [signal.getsignal(number) for number in NUMBERS]
    words = [*SMALL, "steps=1", "evaluate.every=0"]
    thread = threading.Thread(target=launch, args=(None, words, tmp_path / "run", False, True))
    thread.start()
    thread.join(120)
    assert _steps(tmp_path / "run") == [0]
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("words", [["plugins"], ["check", "kuhn_poker"]])
def test_every_command_that_is_interrupted_ends_with_the_code_of_shells(monkeypatch, words):
    """One line, and no traceback."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Plugins, "installed", interrupted)
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, result.output) == (130, "spiral: stopped\n")


class Counting:
    """A bot that remembers how often it was asked."""

    def __init__(self):
        self.state = {"asked": 0}

    def choose(self, game, player, rng):
        self.state["asked"] += 1
        return sorted(game.legal_moves())[0]


class Plugin:
    @hookimpl
    def register_bots(self, register):
        register("counting", Counting)


def test_what_a_bot_remembers_of_games_that_were_given_up_is_put_back(tmp_path, monkeypatch):
    """They will be played again: a bot with a state must not count them twice."""
    plugins = Plugins.installed()
    plugins.add(Plugin(), "counting")
    config = load(None, [*SMALL, "evaluate.every=0", "pool.members=[counting]", "opponents=uniform_past"])
    _at_call(monkeypatch, Rollouts, "play", 3, [signal.SIGTERM], before=False)
    run = RunDir.create(tmp_path / "run", config, {})
    with pytest.raises(StopRequested), StopSignals() as stop:
        train(config, run, plugins, lambda *_: None, False, stop)
    record = json.loads((run.checkpoint(2) / "state.json").read_text())
    asked = record["plugins"]["pool"]["bots"]["bot:counting"]["asked"]
    games = [json.loads(line) for line in (run.path / "episodes.jsonl").read_text().splitlines()]
    by_bot = [t for game in games for t in game["turns"] if game["policies"][t["player"]] == "bot:counting"]
    assert asked == len(by_bot) > 0
