"""`spiral bench` of byte models on a benchmark of no meaning: what is counted, kept, resumed, shown and refused."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from spiral.api.errors import SpiralError
from spiral.commands.main import main
from spiral.evaluation.benchmarks import models as models_module
from spiral.reports import terminal

TASKS = "letters:num=6,numbers:num=4@3"


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Where a bench of two checkpoints is kept, and what it printed: filled by the first test that asks for it."""
    return {"out": tmp_path_factory.mktemp("kept") / "bench"}


@pytest.fixture
def whole(bench, run, kept):
    """(directory, words, record) of a bench of two checkpoints that was not stopped."""
    words = [f"{run}@1", str(run), "--tasks", TASKS, "--max-new-tokens", "8", "--json"]
    if "record" not in kept:
        kept["record"] = bench(*words, "--out", kept["out"])
    return kept["out"], words, kept["record"]


def test_two_checkpoints_of_a_run_in_one_call(whole, run):
    """A row for each model and benchmark, the differences to the first model, and the mean over the benchmarks."""
    out, _, record = whole
    names = [f"{run}@1", f"{run}@2"]
    assert [(row["benchmark"], row["model"]) for row in record["rows"]] == [
        (label, name) for label in ("letters(num=6)", "numbers(num=4)") for name in names
    ]
    assert [row["replies"] for row in record["rows"]] == [6, 6, 12, 12]
    assert [row["model"] for row in record["differences"]] == names[1:] * 2
    assert [row["p_value"] is None for row in record["differences"]] == [False, True]
    assert [row["model"] for row in record["means"]["models"]] == names
    assert len((out / "replies.jsonl").read_text().splitlines()) == 36
    assert record == json.loads((out / "bench.json").read_text())
    greedy, sampled = record["benchmarks"]
    assert (greedy["temperature"], sampled["temperature"]) == (0.0, 0.6)


def test_a_killed_bench_goes_on_to_the_same_table(bench, whole, tmp_path):
    """The file of replies is cut inside a line, as a kill leaves it: what is missing is asked again, what is there is
    not, and nothing in the table differs."""
    out, words, record = whole
    again = tmp_path / "again"
    shutil.copytree(out, again)
    (again / "bench.json").unlink()
    data = (out / "replies.jsonl").read_bytes()
    (again / "replies.jsonl").write_bytes(data[: len(data) // 3])
    left = data[: len(data) // 3].count(b"\n")
    found = bench(*words, "--out", again)
    same = {key: value for key, value in record.items() if key != "seconds"}
    assert {key: value for key, value in found.items() if key != "seconds"} == same
    assert len((again / "replies.jsonl").read_text().splitlines()) == 36
    assert (again / "replies.jsonl").read_bytes().startswith(b"\n".join(data.split(b"\n")[:left]))


def test_a_bench_that_is_over_loads_no_model(bench, whole, monkeypatch):
    """It counts again what is there."""
    out, words, record = whole
    monkeypatch.setattr(models_module.ModelLoader, "asker", None)
    assert bench(*words, "--out", out)["rows"] == record["rows"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--seed", "1"], "its seed is 0, and 1 is asked for"),
        (["--limit", "5"], "the questions of letters(num=6) were changed since"),
        (["--temperature", "0.5"], "letters(num=6) was asked with temperature 0.0, and temperature 0.5 is asked for"),
        (
            ["--tasks", "numbers"],
            "its benchmarks are letters(num=6), numbers(num=4), and letters(num=6), numbers(num=4), ",
        ),
        (["--prompt", "plain:rules=true"], "was asked with prompt plain, and prompt plain(rules=True) is asked for"),
    ],
)
def test_a_directory_belongs_to_one_bench(bench, whole, change, reason):
    """Another model, question, sampling or seed would mix replies that have nothing to do with each other."""
    out, words, _ = whole
    told = bench(*words, *change, "--out", out, code=2)
    assert told.startswith(f"spiral: {out} holds another bench: ")
    assert reason in told
    assert len(told.splitlines()) == 1


def test_changed_weights_are_another_model(bench, run, tmp_path):
    """By content: the same folder, trained further, does not get the old one's replies. A saved model is asked with the
    defaults that follow it."""
    model, out = tmp_path / "model", tmp_path / "bench"
    shutil.copytree(run / "checkpoints" / "step-000001" / "model", model)
    words = [model, "--tasks", "letters:num=2", "--max-new-tokens", 4, "--prompt", "plain", "--out", out]
    assert "letters(num=2)" in bench(*words)
    weights = next(model.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert f"the weights of {model} were changed since" in bench(*words, code=2)


def test_what_cannot_be_asked_or_graded_is_named(bench, run, tmp_path):
    """A question that the context has no room for is wrong and named, and a grader that fails is counted apart; the
    table tells of both."""
    words = [run, "--tasks", "letters:num=4,long=90,broken=true", "--max-new-tokens", 8, "--out", tmp_path / "bench"]
    told = bench(*words)
    assert "1 of 4 questions were not asked and count as wrong" in told
    assert re.search(r"the first: 1\d\d tokens and a reply of 8 have no room in the model's context of 96", told)
    assert "the grader failed on 1 replies" in told
    assert "ValueError: the grader does not read this" in told
    record = bench(*words, "--json")
    [row] = record["rows"]
    assert (row["questions"], row["no_room"], row["ungraded"]) == (4, 1, 1)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["random", "--tasks", "letters"], "random is a bot, which answers no question"),
        (["runs/nowhere", "--tasks", "letters"], "runs/nowhere is neither a run directory nor a bot"),
        (["RUN", "RUN", "--tasks", "letters"], "is named twice"),
        (["RUN"], "no benchmark is named"),
        (["RUN", "--tasks", "leters"], "no benchmark named 'leters'"),
        (["RUN", "--tasks", "letters", "--engine", "no"], "no engine named 'no'"),
        (["RUN", "--suite", "no"], "there is no suite 'no'"),
        (["RUN", "--tasks", "letters", "--out", "OTHER"], "holds something that is no bench"),
        (["RUN", "--tasks", "letters", "--max-new-tokens", "96"], "replies of 96 tokens leave no room"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(bench, run, tmp_path, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER" / "mine.txt").write_text("x")
    told = bench(*[str(run) if word == "RUN" else word for word in words], code=2)
    assert reason in told
    assert "Traceback" not in told


def test_it_tells_how_far_it_is(run, tmp_path, monkeypatch):
    """On stderr, as if ten seconds were none; the result stands alone on stdout."""
    monkeypatch.setattr(terminal, "SILENT_S", 0.0)
    monkeypatch.setattr(terminal, "BEAT_S", 0.001)
    words = [
        "bench",
        str(run),
        "--tasks",
        "letters:num=200",
        "--max-new-tokens",
        "24",
        "--out",
        str(tmp_path / "b"),
        "--json",
    ]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"loading {run}@2" in done.stderr
    assert re.search(r"asking .*@2: \d+ of 200 replies", done.stderr)
    json.loads(done.stdout)


def test_the_page_holds_questions_and_replies_and_no_address(whole):
    """Everything is inside the file, as data that no tag can begin in."""
    out, _, record = whole
    page = (out / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert data["rows"] == record["rows"]
    assert data["questions"]["letters(num=6)"]["q3"] == ["question 3", "ab"]
    assert (len(data["replies"]), data["num_replies"]) == (36, 36)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_a_plug_in_that_is_not_installed_stops_nothing_else(run):
    """A run's games need not be there: only what answers questions is made."""
    plugins = models_module.Plugins.installed()
    plugins._table.pop(("game", "kuhn_poker"))
    [model] = models_module.parse_models([str(run)], plugins)
    assert model.name == f"{run}@2"
    with pytest.raises(SpiralError, match="no prompt named 'no'"):
        models_module.parse_models([str(run)], plugins, models_module.PluginConfig("no"))
