"""After a collapse the run goes back to where it was healthy and falls back on other opponents, without any chance.

The detector is replaced by one that finds a collapse at step 5, whatever the metrics: what is tested is what follows.
"""

import json

import pytest

from spiral.api.errors import RunError
from spiral.config import loading as config
from spiral.plugins.registry import Plugins
from spiral.runs import checkpoints
from spiral.runs.directory import RunDir, step_of
from spiral.selfplay.validation import check
from spiral.training.health.detector import Collapse
from spiral.training.loop import train

SMALL = [
    "steps=8", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=0", "checkpoint.every=2", "checkpoint.keep=1", "checkpoint.episodes=8", "loggers=[]", "pool.every=3",
]  # fmt: skip
ROLLBACK = ["health={action: rollback, fallback: fixed, fallback_share: 0.5, max_rollbacks: 1}"]


class AlwaysAtFive:
    """A detector that names a collapse at step 5, and step 3 as the last one that was healthy."""

    state: dict = {}  # noqa: RUF012

    def __init__(self, *_):
        pass

    def observe(self, step, metrics):
        assert "health/kuhn_poker/draw_rate" in metrics
        assert "learner/grad_norm" in metrics
        return Collapse(5, "test", "kuhn_poker", "It fell over.", "collapse", 4) if step == 5 else None

    def last_healthy(self, step):
        return min(step, 3)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr("spiral.training.health.monitor.Detector", AlwaysAtFive)


def _run(path, *words):
    plugins = Plugins.installed()
    asked = config.load(None, [*SMALL, *words])
    check(asked, plugins)
    resume = (path / "config.yaml").exists()
    opened = RunDir.open(path)[0] if resume else RunDir.create(path, asked, plugins.distributions)
    train(asked, opened, plugins, lambda *_: None, resume)
    return opened


def _lines(run, name):
    return [json.loads(line) for line in (run.path / name).read_text().splitlines()]


def _collapses(run):
    """The events that a test made; random weights earn a warning besides, that there is nothing to learn."""
    return [event for event in _lines(run, "events.jsonl") if event["severity"] == "collapse"]


def test_a_note_changes_nothing_but_the_record(tmp_path):
    """The run goes on to its end; the event stands in events.jsonl with what, when, where and the sentence."""
    run = _run(tmp_path / "run")
    assert [line["step"] for line in run.metrics()] == list(range(8))
    assert _collapses(run) == [
        {
            "step": 5, "kind": "test", "game": "kuhn_poker", "sentence": "It fell over.", "severity": "collapse",
            "since": 4, "action": "note",
        }
    ]  # fmt: skip


def test_a_stop_keeps_what_was_learned(tmp_path):
    """One sentence with the reason; a checkpoint after the very step, and the report."""
    with pytest.raises(RunError, match=r"stopped at step 5, as health.action asks: It fell over\."):
        _run(tmp_path / "run", "health.action=stop")
    assert RunDir(tmp_path / "run").checkpoint().name == "step-000006"
    assert (tmp_path / "run" / "report.html").exists()


def test_a_rollback_goes_back_and_falls_back(tmp_path):
    """Back to step 2, the newest checkpoint up to step 3; from there half of the games have the fallback sampler's bot.

    What was forgotten is kept aside; the second time the collapse is noted only, since one rollback was allowed.
    """
    run = _run(tmp_path / "run", *ROLLBACK)
    assert [line["step"] for line in run.metrics()] == list(range(8))
    assert [line["step"] for line in _lines(run, "abandoned-1.jsonl")] == [2, 3, 4, 5]
    assert [(e["step"], e["action"]) for e in _collapses(run)] == [(5, "rollback"), (5, "note")]
    with_bot = {e["step"] for e in _lines(run, "episodes.jsonl") if "bot:random" in e["policies"]}
    without = {e["step"] for e in _lines(run, "episodes.jsonl") if "bot:random" not in e["policies"]}
    assert with_bot
    assert min(with_bot) >= 2
    assert {0, 1} <= without
    assert run.checkpoint().name == "step-000008"


def test_the_healthy_checkpoint_is_never_dropped(tmp_path, monkeypatch):
    """With one checkpoint kept, the newest healthy one stays beside it until the collapse is named."""
    seen = []
    thin_out = checkpoints.thin_out

    def watched(run, keep, spare):
        thin_out(run, keep, spare)
        seen.append([step_of(path) for path in run.checkpoint_paths()])

    monkeypatch.setattr(checkpoints, "thin_out", watched)
    _run(tmp_path / "run", *ROLLBACK)
    assert seen[:4] == [[0], [0, 2], [2, 4], [2]]


@pytest.mark.parametrize("moment", ["set_aside", "drop", "save", "rewind", "write_events"])
def test_a_rollback_that_is_interrupted_comes_to_the_same_end(tmp_path, monkeypatch, moment):
    """Stopped dead at each stage of going back, before it or after it; resumed, the run is what it would have been."""
    whole = _run(tmp_path / "whole", *ROLLBACK)

    def _interrupted(name, after):
        owner = checkpoints if moment in ("drop", "save") else RunDir
        real, calls = getattr(owner, moment), []

        def dying(*args, **kwargs):
            rolling = (tmp_path / name / "abandoned-1.jsonl").exists() or moment in ("set_aside", "write_events")
            if rolling and args[1:] and not calls:
                calls.append(1)
                if after:
                    real(*args, **kwargs)
                raise KeyboardInterrupt
            if rolling and moment == "drop" and not calls:
                calls.append(1)
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, moment, dying)
        try:
            with pytest.raises(KeyboardInterrupt):
                _run(tmp_path / name, *ROLLBACK)
        finally:
            monkeypatch.setattr(owner, moment, real)
        return _run(tmp_path / name, *ROLLBACK)

    for after in (False, True):
        run = _interrupted(f"{moment}-{after}", after)
        for name in ("events.jsonl", "episodes.jsonl"):
            assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()
        resumed, uninterrupted = run.checkpoint(), whole.checkpoint()
        for name in ("state.json", "live.safetensors"):
            assert (resumed / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_a_rollback_without_a_fallback_sampler_is_refused():
    """It would come to the same collapse again."""
    _, problems = config.read(None, ["health.action=rollback"])
    assert any("needs a sampler to fall back on, such as health.fallback=uniform_past" in p for p in problems)
