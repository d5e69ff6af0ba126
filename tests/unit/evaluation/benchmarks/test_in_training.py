"""Benchmarks in training: asked on the run's own engine, the same again after a resume, and drawn with the games."""

import json
import shutil

import pytest

from spiral.api.errors import ConfigError
from spiral.reports.html.records import collect
from spiral.reports.terminal import headline
from spiral.runs import metric_names
from spiral.training.session import configure, train

TASKS = [{"name": "letters", "args": {"num": 4}, "samples": 2, "max_new_tokens": 5}, "numbers"]
RUN = {
    "steps": 2, "rollout.episodes": 8, "warm_start": {"max_steps": 0, "cache": False}, "loggers": [],
    "evaluate": {"every": 1, "exploitability": False, "opponents": [], "tasks": TASKS},
    "checkpoint": {"every": 1, "keep": 0}, "model.args.context": 96,
}  # fmt: skip


def measured(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: {k: v for k, v in row.items() if k.startswith("eval/tasks/")} for row in rows}


def test_benchmarks_are_asked_and_a_resumed_run_measures_the_same(plugins, tmp_path):
    """At each evaluation: accuracy with its interval and the length of replies, of each benchmark."""
    path = tmp_path / "run"
    train(RUN, run_dir=path, quiet=True)
    whole = measured(path)
    assert list(whole) == [0, 1, 2]
    name = metric_names.task("letters(num=4)", "accuracy")
    assert name == "eval/tasks/letters(num=4)/accuracy"
    for row in whole.values():
        assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
        assert 1 <= row["eval/tasks/letters(num=4)/tokens"] <= 5
        assert 5 <= row["eval/tasks/numbers/tokens"] <= 16
    shutil.rmtree(path / "checkpoints" / "step-000002")
    train(run_dir=path, resume=True, quiet=True)
    assert measured(path) == whole
    tasks = collect(path)["tasks"]
    assert [task["name"] for task in tasks] == ["letters(num=4)", "numbers"]
    assert tasks[0]["metrics"]["accuracy_low"] == f"{name}_low"
    assert {"letters(num=4)", "numbers"} & {game["name"] for game in collect(path)["games"]} == set()


def test_the_terminal_shows_the_share_that_was_right():
    assert headline({metric_names.task("a/b", "accuracy"): 0.25, metric_names.task("a/b", "tokens"): 9.0}) == {
        "right a/b": (0.25,)
    }


def test_names_of_benchmarks_are_no_names_of_games():
    """Whatever they hold, and beside a game that is called `tasks/NAME`."""
    for benchmark in ("math500", "reasoning_gym/chain_sum(size=5)", "a/vs/b"):
        name = metric_names.task(benchmark, "accuracy_low")
        assert metric_names.parse_task(name) == (benchmark, "accuracy_low")
        assert metric_names.parse(name) is None
    game = metric_names.of_game("eval", "tasks/math500", "return")
    assert metric_names.parse_task(game) is None
    assert metric_names.parse(game).game == "tasks/math500"


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("leters", "no benchmark named 'leters'"),
        ({"name": "letters", "args": {"nums": 1}}, "benchmark 'letters': got an unexpected keyword argument 'nums'"),
        ({"name": "letters", "samples": 0}, "evaluate.tasks: samples of letters is 0, and must be at least 1"),
        ({"name": "letters", "samples": 2, "temperature": 0}, "2 replies to each question at temperature 0"),
    ],
)
def test_what_cannot_be_asked_is_told_before_training(plugins, task, reason):
    with pytest.raises(ConfigError, match=reason):
        configure({"evaluate.tasks": [task]})


def test_a_run_does_not_train_on_the_questions_it_evaluates_by(plugins, tmp_path):
    """Refused before a model is made, with the game, the benchmark and a question."""
    config = {**RUN, "games": [{"name": "tasks/letters", "args": {"num": 3}}], "rollout.group_size": 8}
    with pytest.raises(ConfigError, match="trains on 3 of the 4 questions that evaluate.tasks asks of letters"):
        train(config, run_dir=tmp_path / "run", quiet=True)
