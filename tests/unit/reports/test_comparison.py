"""Runs over each other: which are a group, what a group's mean and spread are, and the command with its files."""

import json
import sys

import pytest
from click.testing import CliRunner

from spiral import SpiralError
from spiral.commands.main import main
from spiral.config.loading import load
from spiral.reports.comparison import (
    ComparedRun,
    Spread,
    chosen_metrics,
    grouped,
    headline_metrics,
    read_run,
    spread,
    title,
)
from spiral.reports.comparison_figure import comparison_png
from spiral.reports.html.comparison_page import comparison_page
from spiral.runs.directory import RunDir

NASH = "eval/kuhn_poker/nash_conv"


def _run(folder, name, curve, *words, metric=NASH):
    run = RunDir.create(folder / name, load(None, list(words)), {})
    for step, value in curve.items():
        run.log(step, {metric: value, "learner/lr": 0.1})
    return folder / name


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one learning rate, one of them longer, and one run of another."""
    return [
        _run(tmp_path, "a0", {0: 0.5, 25: 0.3, 50: 0.2}, "seed=0", "learner.lr=0.001"),
        _run(tmp_path, "a1", {0: 0.7, 25: 0.1}, "seed=1", "learner.lr=0.001", "loggers=[]"),
        _run(tmp_path, "b0", {0: 0.6, 25: 0.5}, "seed=0", "learner.lr=0.0003"),
    ]


# Groups


def test_runs_that_differ_in_seed_and_loggers_alone_are_a_group(runs):
    """Called by what tells it from the others, in the order in which runs were named."""
    groups = grouped([read_run(path) for path in runs])
    assert [(g.label, [r.seed for r in g.runs]) for g in groups] == [
        ("learner.lr=0.001", [0, 1]), ("learner.lr=0.0003", [0]),
    ]  # fmt: skip


def test_the_label_says_what_differs_and_no_more():
    """An argument that only one plug-in has, a long value, a null, and runs that do not differ."""

    def run(**config):
        return ComparedRun("r", 0, {"steps": 10, **config}, {})

    assert [g.label for g in grouped([run(), run()])] == ["all runs"]
    rae, grpo = {"advantage.name": "rae", "advantage.args.decay": 0.9}, {"advantage.name": "grpo"}
    labels = [g.label for g in grouped([run(**rae), run(**grpo)])]
    assert labels == ["advantage.name=rae, advantage.args.decay=0.9", "advantage.name=grpo"]
    assert [g.label for g in grouped([run(clip=None), run(clip=0.2), run()])] == ["clip=null", "clip=0.2", "no clip"]
    assert grouped([run(policy="x" * 99), run(policy="y")])[0].label == f"policy={'x' * 37}..."
    assert len(grouped([run(clip=1), run(clip=True)])) == 2


# Statistics


def test_the_mean_is_over_the_steps_that_all_have():
    """By hand: (0.5 + 0.7) / 2 and (0.3 + 0.1) / 2; step 50 would be the mean of other runs."""
    curves = [{0: 0.5, 25: 0.3, 50: 0.2}, {25: 0.1, 0: 0.7}]
    assert spread(curves) == [
        Spread(0, pytest.approx(0.6), 0.5, 0.7), Spread(25, pytest.approx(0.2), 0.1, 0.3),
    ]  # fmt: skip
    assert spread([{3: 1.0}]) == [Spread(3, 1.0, 1.0, 1.0)]
    assert spread([{0: 1.0}, {1: 1.0}]) == []
    assert spread([]) == []


def test_values_that_were_not_finite_are_no_points(tmp_path):
    path = _run(tmp_path, "a", {0: float("nan"), 25: 0.25})
    assert read_run(path).curves[NASH] == {25: 0.25}


# Metrics


def test_without_a_metric_those_that_runs_are_judged_by():
    """Of each game exact NashConv, else wins, else returns."""
    wins = [f"eval/pig/vs/random/p{player}/win" for player in (0, 1)]
    returns = [f"play/{game}/return_p0" for game in ("kuhn_poker", "pig", "snake")]
    names = ["learner/lr", *returns, *wins, "eval/pig/vs/random/p0/loss", NASH, "eval/kuhn_poker/nash_conv_live"]
    assert headline_metrics(names) == [NASH, *wins, "play/snake/return_p0"]


def test_a_metric_that_no_run_has_is_one_sentence(runs):
    read = [read_run(path) for path in runs]
    assert chosen_metrics(read, ["learner/lr"]) == ["learner/lr"]
    with pytest.raises(SpiralError, match=rf"no.* has a metric 'eval/kuhn/nash_conv'; they have {NASH}"):
        chosen_metrics(read, ["eval/kuhn/nash_conv"])


def test_charts_are_called_as_people_do():
    assert title(NASH) == "NashConv kuhn_poker"
    assert title("eval/pig/vs/random/p1/win") == "win pig as player 1 vs random"
    assert title("play/snake/return_p0") == "return p0 snake"
    assert title("learner/lr") == "learner/lr"


# The command


def _invoke(*words):
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def test_the_command_writes_a_page(runs, tmp_path, monkeypatch):
    """With mean, ends and each run; without matplotlib it says what brings the PNG, and all else is done."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = _invoke(*runs, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "learner.lr=0.001: 0.2000 [0.1000, 0.3000] at step 25, 2 of 2 runs" in result.output
    assert "learner.lr=0.0003: 0.5000 [0.5000, 0.5000] at step 25, 1 of 1 runs" in result.output
    assert (
        'no comparison.png: the figure as a PNG needs matplotlib: pip install "spiral-selfplay[plots]"' in result.output
    )
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    [metric] = data["metrics"]
    assert metric["name"] == NASH
    first = metric["groups"][0]
    assert (first["mean"]["x"], first["mean"]["y"]) == ([0, 25], [0.6, 0.2])
    assert (first["low"]["y"], first["high"]["y"]) == ([0.5, 0.1], [0.7, 0.3])
    assert [run["series"]["x"] for run in first["runs"]] == [[0, 25, 50], [0, 25]]
    assert first["last"]["values"] == [{"seed": 0, "value": 0.3}, {"seed": 1, "value": 0.1}]
    assert "default-src 'none'" in page


def test_the_command_draws_a_png(runs, tmp_path):
    """Two charts are twice as high as one."""
    pytest.importorskip("matplotlib")
    result = _invoke(*runs, "--out", tmp_path / "out", "--metric", NASH, "--metric", "learner/lr")
    assert result.exit_code == 0, result.output
    png = (tmp_path / "out" / "comparison.png").read_bytes()
    one = comparison_png(grouped([read_run(path) for path in runs]), [NASH])
    assert [int.from_bytes(image[20:24], "big") for image in (png, one)] == [1080, 540]


def test_a_group_without_the_metric(tmp_path):
    """It is named in the table, and nothing is drawn for it."""
    paths = [
        _run(tmp_path, "a", {0: 0.5}, "steps=5"), _run(tmp_path, "b", {0: 1.0}, metric="play/kuhn_poker/return_p0"),
    ]  # fmt: skip
    result = _invoke(*paths, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "steps=1000: no common step, 0 of 1 runs" in result.output


def test_a_name_from_a_config_is_text_on_the_page():
    run = ComparedRun("</script><b>", 0, {"a": "<img>"}, {NASH: {0: 0.5}})
    other = ComparedRun("x", 0, {"a": "y"}, {NASH: {0: 0.5}})
    page = comparison_page(grouped([run, other]), [NASH])
    assert "<img>" not in page
    assert page.count("</script>") == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: [], "no run was named"),
        (lambda folder: [folder / "none"], "is not a run: it does not exist"),
        (lambda folder: [_run(folder, "empty", {})], "has no metrics yet"),
        (lambda folder: [_run(folder, "a", {0: 1.0}), folder / "a"], "a run is named twice"),
        (lambda folder: [_run(folder, "a", {0: 1.0}, metric="x")], "neither NashConv nor wins nor returns"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(tmp_path, make, words):
    result = _invoke(*make(tmp_path), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()
