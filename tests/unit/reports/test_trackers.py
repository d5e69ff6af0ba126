"""Loggers that are accelerate's trackers: what they are told, with a fake one and with those that are installed."""

import importlib
import json
import logging
import time

import accelerate.tracking
import pytest
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from click.testing import CliRunner

from spiral import PluginError
from spiral.commands.main import main
from spiral.plugins.registry import Plugins
from spiral.reports.trackers import TRACKERS, Tracker

CONFIG = {
    "games": [{"name": "kuhn_poker", "args": {"rounds": 5}, "weight": 1.0}],
    "learner": {"lr": 0.001, "clip": None},
    "rewards": [],
    "rollout": {"penalty": (-1.5, 0.5)},
    "evaluate": {"opponents": ["random"]},
}
FLAT = {
    "games.0.name": "kuhn_poker", "games.0.args.rounds": 5, "games.0.weight": 1.0, "learner.lr": 0.001,
    "learner.clip": None, "rewards": "[]", "rollout.penalty": "[-1.5, 0.5]", "evaluate.opponents": '["random"]',
}  # fmt: skip


class Fake(GeneralTracker):
    """Remembers what it is asked, and fails where it is told to."""

    name, requires_logging_directory, made, fails = "wandb", False, [], ""

    def __init__(self, run_name, **options):
        super().__init__()
        self.calls = [("init", run_name, options)]
        self.made.append(self)

    @property
    def tracker(self):
        return self

    def _note(self, *call):
        self.calls.append(call)
        if call[0] == self.fails:
            raise ConnectionError("no route to host")

    def start(self):
        self._note("start")

    def store_init_configuration(self, values):
        self._note("config", values)

    def log(self, values, step=None, **_):
        self._note("log", values, step)

    def finish(self):
        self._note("finish")


@pytest.fixture
def fake(monkeypatch):
    """Stands for wandb's tracker, as if wandb were installed."""
    monkeypatch.setattr(Fake, "made", [])
    monkeypatch.setattr(Fake, "fails", "")
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    monkeypatch.setattr("spiral.reports.trackers._is_installed", lambda name: True)
    return Fake


def _run(tracker):
    tracker.run_started(config=CONFIG)
    tracker.step_finished(step=0, metrics={"play/kuhn_poker(rounds=5)/return_p0": 1.5})
    tracker.step_finished(step=1, metrics={"learner/lr": 1})
    tracker.run_finished()


def test_a_tracker_gets_config_metrics_by_step_and_its_end(fake, tmp_path):
    """The config flat, as trackers take it; names without what some refuse; the options of its start."""
    _run(Plugins.installed().make("logger", "wandb", tmp_path / "kuhn-1", mode="offline", project="mine"))
    [made] = fake.made
    assert made.calls == [
        ("init", "mine", {"name": "kuhn-1", "dir": str(tmp_path / "kuhn-1"), "mode": "offline"}),
        ("start",),
        ("config", FLAT),
        ("log", {"play/kuhn_poker_rounds_5_/return_p0": 1.5}, 0),
        ("log", {"learner/lr": 1.0}, 1),
        ("finish",),
    ]


def test_a_run_that_was_rolled_back_is_a_new_one_there(fake, tmp_path):
    """The old one is finished; the steps that are played again go to the new one, with the same config."""
    tracker = Plugins.installed().make("logger", "wandb", tmp_path / "kuhn-1")
    tracker.run_started(config=CONFIG)
    for step in (0, 1, 2, 1, 2):
        tracker.step_finished(step=step, metrics={"a": step})
    tracker.run_finished()
    first, second = fake.made
    assert first.calls[1:] == [("start",), ("config", FLAT), *[("log", {"a": s}, s) for s in (0, 1, 2)], ("finish",)]
    assert second.calls == [
        first.calls[0],
        ("start",),
        ("config", FLAT),
        *[("log", {"a": s}, s) for s in (1, 2)],
        ("finish",),
    ]


def test_every_tracker_of_accelerate_is_a_logger():
    """Those of the installed release, but for TensorBoard, which spiral writes itself."""
    assert {*TRACKERS, "tensorboard"} == {*LOGGER_TYPE_TO_CLASS}
    assert {*TRACKERS} < {*Plugins.installed().names("logger")}


@pytest.mark.parametrize("name", TRACKERS)
def test_the_options_fit_the_tracker(name, tmp_path, monkeypatch):
    """Each class takes what it is given, installed or not: most import their library when they start."""
    monkeypatch.setattr("spiral.reports.trackers._is_installed", lambda name: True)
    Tracker(name, tmp_path)


def test_a_tracker_that_is_not_installed_is_one_sentence_at_the_start(tmp_path, monkeypatch):
    """It names the extra, or the package where there is none; nothing is left of the run."""
    monkeypatch.setattr("spiral.reports.trackers._is_installed", lambda name: False)
    words = ["train", "--run-dir", str(tmp_path / "run"), "steps=1"]
    result = CliRunner().invoke(main, [*words, "loggers=[wandb]"])
    assert result.exit_code == 2
    assert result.output == (
        "spiral: logger 'wandb' is not installed; pip install \"spiral-selfplay[wandb]\", or take it out of loggers\n"
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(PluginError, match="pip install comet-ml,"):
        Tracker("comet_ml", tmp_path)


def test_an_option_that_a_tracker_does_not_take(tmp_path, monkeypatch):
    monkeypatch.setattr("spiral.reports.trackers._is_installed", lambda name: True)
    with pytest.raises(PluginError, match=r"logger 'mlflow': .*unexpected keyword argument 'mode'"):
        Tracker("mlflow", tmp_path, mode="offline")


def test_an_accelerate_that_does_not_know_it(tmp_path, monkeypatch):
    monkeypatch.setattr("spiral.reports.trackers._is_installed", lambda name: True)
    monkeypatch.delitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "swanlab")
    with pytest.raises(PluginError, match="has trackers for aim, .* only; upgrade it"):
        Tracker("swanlab", tmp_path)


@pytest.mark.parametrize("fails", ["start", "config", "log", "finish"])
def test_a_tracker_that_raises_does_not_sink_a_run(fake, tmp_path, monkeypatch, caplog, fails):
    """The whole command: the run ends as without it, and a warning says what failed."""
    monkeypatch.setattr(fake, "fails", fails)
    words = ["steps=2", "rollout.episodes=4", "warm_start.max_steps=0", "evaluate.every=0", "loggers=[wandb]"]
    with caplog.at_level(logging.WARNING):
        result = CliRunner().invoke(main, ["train", "--run-dir", str(tmp_path / "run"), *words])
    assert result.exit_code == 0, result.output
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("spiral")]
    assert lines
    assert all("logger 'wandb' failed in " in line and "ConnectionError: no route to host" in line for line in lines)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


# Real ones, where they are installed


def _installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")


def test_mlflow(tmp_path, monkeypatch):
    """A store in a file: the parameters, and each metric by step."""
    mlflow = _installed("mlflow")
    Accelerator(cpu=True)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    _run(Tracker("mlflow", tmp_path / "kuhn-1", project="mine"))
    [found] = mlflow.search_runs(experiment_names=["mine"], output_format="list")
    assert found.info.run_name == "kuhn-1"
    assert found.info.status == "FINISHED"
    assert found.data.params["games.0.name"] == "kuhn_poker"
    [point] = mlflow.tracking.MlflowClient().get_metric_history(found.info.run_id, "learner/lr")
    assert (point.step, point.value) == (1, 1.0)


def test_wandb(tmp_path, monkeypatch):
    """Offline: a file of records with the config and the metrics."""
    _installed("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    Accelerator(cpu=True)
    (tmp_path / "kuhn-1").mkdir()
    tracker = Tracker("wandb", tmp_path / "kuhn-1", project="mine", mode="offline")
    _run(tracker)
    [record] = (tmp_path / "kuhn-1" / "wandb").glob("offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 30
    while b"learner/lr" not in record.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)  # a process of wandb's own writes it
    data = record.read_bytes()
    assert b"learner/lr" in data
    assert b"kuhn_poker" in data


def test_trackio(tmp_path, monkeypatch):
    """Its own database in a file."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    _installed("trackio")
    Accelerator(cpu=True)
    _run(Tracker("trackio", tmp_path / "kuhn-1", project="mine"))
    assert any(b"learner/lr" in path.read_bytes() for path in (tmp_path / "trackio").rglob("*") if path.is_file())


def test_dvclive(tmp_path, monkeypatch):
    """Files in the run."""
    _installed("dvclive")
    monkeypatch.chdir(tmp_path)
    Accelerator(cpu=True)
    (tmp_path / "kuhn-1").mkdir()
    _run(Tracker("dvclive", tmp_path / "kuhn-1", save_dvc_exp=False))
    assert json.loads((tmp_path / "kuhn-1" / "dvclive" / "metrics.json").read_text())["learner"]["lr"] == 1.0


def test_swanlab(tmp_path, monkeypatch):
    """Offline: files under the run."""
    _installed("swanlab")
    Accelerator(cpu=True)
    _run(Tracker("swanlab", tmp_path / "kuhn-1", mode="offline"))
    assert [*(tmp_path / "kuhn-1" / "swanlab").iterdir()]


def test_aim(tmp_path):
    """A repository in the run."""
    _installed("aim")
    Accelerator(cpu=True)
    (tmp_path / "kuhn-1").mkdir()
    _run(Tracker("aim", tmp_path / "kuhn-1"))
    assert (tmp_path / "kuhn-1" / ".aim").is_dir()
