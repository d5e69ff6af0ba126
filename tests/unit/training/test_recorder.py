"""What a step leaves behind."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spiral.api.errors import PluginError
from spiral.api.hooks import hookimpl
from spiral.config.loading import load
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.training.loop import train

SMALL = ["steps=2", "rollout.episodes=4", "warm_start.max_steps=0", "evaluate.every=2", "evaluate.matches=2"]


class Logger:
    """Remembers what it is told, and measures something under `name` where there is one."""

    made: list = []  # noqa: RUF012

    def __init__(self, run_dir, name="", value=1.0):
        self.name, self.value, self.seen = name, value, []
        self.made.append(self)

    @hookimpl
    def measure_step(self, step, metrics, episodes):
        return {self.name: self.value + step} if self.name else None

    @hookimpl
    def step_finished(self, step, metrics):
        self.seen.append(dict(metrics))
        if self.name == "changes":
            metrics["my/x"] = 1.0


class Plugin:
    """A plug-in that measures, and brings the logger."""

    @hookimpl
    def register_loggers(self, register):
        register("remembers", Logger)

    @hookimpl
    def measure_step(self, step, episodes):
        return {"my/num_episodes": len(episodes)}


def _train(path, *loggers):
    Logger.made = []
    plugins = Plugins.installed()
    plugins.add(Plugin(), "measuring")
    config = load(None, [*SMALL, {"loggers": [*loggers, "tensorboard"]}])
    run = RunDir.create(path, config, {})
    train(config, run, plugins, lambda *_: None, False)
    return run


def test_metrics_of_a_plug_in_are_metrics_everywhere(tmp_path):
    """A plug-in's and a logger's: in metrics.jsonl, the report, TensorBoard, and every logger, in whatever order."""
    named = {"name": "remembers", "args": {"name": "my/x"}}
    run = _train(tmp_path / "run", "remembers", named, "remembers")
    expected = [(4.0, 1.0), (4.0, 2.0), (0.0, 3.0)]  # the last line is an evaluation alone
    assert [(line["my/num_episodes"], line["my/x"]) for line in run.metrics()] == expected
    for logger in Logger.made:
        assert [(seen["my/num_episodes"], seen["my/x"]) for seen in logger.seen] == expected
    board = EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    assert [point.value for point in board.Scalars("my/x")] == [1.0, 2.0, 3.0]
    assert json.dumps("my/x") in (run.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"name": "learner/lr"}, "measure_step returned 'learner/lr', which was measured already"),
        ({"name": "my/num_episodes"}, "measure_step returned 'my/num_episodes', which was measured already"),
    ],
)
def test_no_plug_in_replaces_what_was_measured(tmp_path, args, sentence):
    with pytest.raises(PluginError, match=sentence):
        _train(tmp_path / "run", {"name": "remembers", "args": args})


@pytest.mark.parametrize(
    ("returned", "sentence"), [({"my/x": "much"}, "'much' for 'my/x'"), ([1.0], r"returned \[1.0\]")]
)
def test_what_is_no_metric_is_one_sentence(tmp_path, monkeypatch, returned, sentence):
    monkeypatch.setattr(Logger, "measure_step", hookimpl(lambda self: returned))
    with pytest.raises(PluginError, match=sentence):
        _train(tmp_path / "run", "remembers")


def test_what_was_measured_cannot_be_changed(tmp_path, caplog):
    """A change that reached some records and not others would be worse than none: it is told."""
    run = _train(tmp_path / "run", {"name": "remembers", "args": {"name": "changes"}})
    assert "logger 'remembers' failed in step_finished: TypeError" in caplog.text
    assert all("my/x" not in line for line in run.metrics())
