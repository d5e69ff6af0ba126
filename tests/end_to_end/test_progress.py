"""Commands that measure are not silent either: what takes long is told on stderr, and the result stands alone on stdout."""

import json

import pytest
from click.testing import CliRunner

from spiral.commands.main import main
from spiral.reports import terminal
from spiral.training.session import train

TINY = {
    "steps": 1, "rollout.episodes": 8, "warm_start": {"max_steps": 5, "cache": False}, "loggers": [],
    "evaluate.every": 0, "checkpoint.every": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("told") / "run"
    train(TINY, run_dir=path, quiet=True)
    return str(path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["eval", "--games", "400", "--opponent", "random"], " of 400 games"),
        (["exploitability", "--samples", "40"], " of 480 replies"),
    ],
)
def test_what_takes_long_is_told_on_stderr(run, words, told, monkeypatch):
    """As if ten seconds were none."""
    monkeypatch.setattr(terminal, "SILENT_S", 0.0)
    monkeypatch.setattr(terminal, "BEAT_S", 0.001)
    command, *options = words
    done = CliRunner().invoke(main, [command, run, *options, "--json"])
    assert done.exit_code == 0, done.output
    assert f"loading run:{run}@1" in done.stderr
    assert told in done.stderr
    json.loads(done.stdout)


def test_what_is_quick_is_not_told(run):
    done = CliRunner().invoke(main, ["eval", run, "--games", "2", "--opponent", "random"])
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
