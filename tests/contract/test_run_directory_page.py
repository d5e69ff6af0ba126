"""docs/reference/run-directory.md names every file of a run and every field that is written, and no other."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from spiral_games.native.kuhn_poker import KuhnPoker

from spiral.commands.main import main
from spiral.config.schema import HealthConfig
from spiral.runs.directory import RunDir
from spiral.training.health.detector import Collapse
from spiral.training.health.monitor import HealthMonitor

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "run-directory.md").read_text(encoding="utf-8")


def fields(heading, table=0):
    """The names in the first column of a table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0] if heading else PAGE.partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.M)
    return {name for row in tables[table].splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a pool, an evaluation, bots, illegal replies and a voided game."""
    path, deals = tmp_path_factory.mktemp("r") / "run", []
    words = [
        "steps=2", "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=1",
        "evaluate.matches=2", "checkpoint.every=1", "loggers=[]", "pool.every=1", "pool.members=[random]",
        "opponents={name: mixture, args: {weights: {members: 1, learner: 1}}}",
    ]  # fmt: skip
    reset = KuhnPoker.reset

    def breaking(self, rng):
        deals.append(1)
        if len(deals) == 12:  # in the first step
            raise ValueError("no cards")
        reset(self, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KuhnPoker, "reset", breaking)
        done = CliRunner().invoke(main, ["train", *words, "--run-dir", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_page_names_every_file(run):
    """And of those on the page that this run has none of: a collapse, a rollback, models from folders, bots that keep,
    text, a cluster."""
    written = {file.name + "/" * file.is_dir() for file in run.iterdir()}
    named = {name.replace("step-N/", "") for name in fields("")} - {"checkpoint.episodes", "checkpoint.every"}
    assert named - written == {
        "read_from.json", "events.jsonl", "abandoned-N.jsonl", "bots/", "samples.jsonl",
        "timeline.jsonl",
    }  # fmt: skip
    assert written <= named


def test_the_fields_of_episodes(run):
    rows = lines(run / "episodes.jsonl")
    assert {name for row in rows for name in row} == fields("episodes.jsonl")
    assert {name for row in rows for turn in row["turns"] for name in turn} == fields("episodes.jsonl", 1)
    assert all(row.keys() == fields("episodes.jsonl") for row in rows)


def test_the_fields_of_the_policy(run):
    tables = json.loads((run / "policy.json").read_text(encoding="utf-8"))
    assert [table.keys() for table in tables.values()] == [fields("policy.json")]
    (table,) = tables.values()
    assert table["table"].keys() == table["illegal_mass"].keys()
    assert all(abs(sum(moves.values()) - 1) < 1e-6 for moves in table["table"].values())


def test_the_fields_of_samples(tmp_path):
    (tmp_path / "text").write_text("A text. " * 99, encoding="utf-8")
    words = ["model=byte-0.1m", "steps=1", "text.sample_tokens=4", "loggers=[]", "text.row_tokens=64"]
    words += ["--run-dir", str(tmp_path / "run")]
    done = CliRunner().invoke(main, ["pretrain", str(tmp_path / "text"), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = lines(tmp_path / "run" / "samples.jsonl")
    assert rows
    assert all(row.keys() == fields("samples.jsonl") for row in rows)


def test_the_fields_of_voided_games(run):
    assert {name for row in lines(run / "voided.jsonl") for name in row} == fields("voided.jsonl")


def test_the_fields_of_the_pool(run):
    tables = json.loads((run / "pool.json").read_text(encoding="utf-8"))
    rows = [row for table in tables.values() for row in table]
    assert {name for row in rows for name in row} == fields("pool.json")
    (learner,) = [row for row in rows if row["policy"] == "learner"]
    assert fields("pool.json") - learner.keys() == {"score", "games"}


def test_the_fields_of_events(tmp_path):
    """`back_to` is added by the rollback; tests/faults/test_two_processes.py reads it."""
    collapse = Collapse(5, "test", "kuhn_poker", "It fell over.", "collapse", 4)
    monitor = HealthMonitor(HealthConfig(), 100, [])
    monitor._detector.observe = lambda step, metrics: collapse
    event = monitor.check(5, {}, 0)
    RunDir(tmp_path).write_events([event])
    (row,) = lines(tmp_path / "events.jsonl")
    assert {*row, "back_to"} == fields("events.jsonl") == {*asdict(collapse), "action", "back_to"}
