"""Every part of a run that may take long is told before it begins, and counts what it does."""

from spiral.config.loading import load
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.training.loop import train

SMALL = [
    "steps=1", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate={every: 1, matches: 1}", "checkpoint.every=1", "loggers=[]", "learner.micro_batch_tokens=64",
]  # fmt: skip


def test_each_part_of_a_run_is_told_and_counted(tmp_path):
    """Loading, warm start, evaluation, play, update, checkpoint, in the order in which they happen."""
    plugins, config, told = Plugins.installed(), load(None, SMALL), []
    run = RunDir.create(tmp_path / "run", config, plugins.distributions)
    train(config, run, plugins, told.append, resume=False)
    assert [phase.name for phase in told] == [
        "loading byte-0.1m", "warm start", "evaluating", "playing", "learning", "saving a checkpoint", "evaluating",
    ]  # fmt: skip
    counted = {phase.name: phase for phase in told if phase.total}
    assert counted.keys() == {"warm start", "playing", "learning"}
    assert all(phase.done() == phase.total for phase in counted.values())
    assert counted["playing"].total == 8
    assert counted["playing"].note() == "0 replies awaited"
