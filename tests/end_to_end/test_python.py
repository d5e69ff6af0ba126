"""The Python door: the page that documents it runs, block by block, and so does the loop of the examples."""

import ast
import importlib.util
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import spiral
from spiral.commands.main import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guides" / "python.md"
LOOP = ROOT / "examples" / "selfplay_loop.py"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The page's blocks, run in order in an empty folder with few steps; (names, what was printed)."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    folder = tmp_path_factory.mktemp("notebook")
    names, printed = {}, []
    names["print"] = lambda *words: printed.append(" ".join(map(str, words)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SPIRAL_CACHE", str(folder / "cache"))
        for block in blocks:
            few = block.replace("steps=1000", 'steps=4, quiet=True, checkpoint={"every": 2}, evaluate={"every": 2}')
            few = few.replace("steps=1200", "steps=6, quiet=True").replace('"episodes": 256', '"episodes": 32')
            exec(compile(few, str(PAGE), "exec"), names)
        yield names, printed, folder


def test_the_page_trains_reads_and_measures(notebook):
    """A run that was resumed, a frame of its steps, exact and sampled truth, two kinds of policies."""
    names, printed, folder = notebook
    run = names["run"]
    assert run.path == Path("runs/notebook")
    assert run.steps == [4, 6]
    assert list(names["frame"].index) == list(range(7))
    assert names["frame"]["eval/kuhn_poker/nash_conv"].notna().sum() == 4
    assert {row["opponent"] for row in names["rows"]} == {"random", "equilibrium"}
    assert abs(sum(names["truth"]["table"]["kuhn p0 K"].values()) - 1) < 1e-6
    assert isinstance(names["earlier"], spiral.Policy)
    assert (folder / "runs" / "notebook" / "report.html").exists()
    assert "0.0005 rloo 4" in printed
    assert any("rollout.episodes is 511" in line and "no advantage named 'roll'" in line for line in printed)


def test_the_command_line_says_the_same(notebook):
    """`spiral exploitability` and `run.exploitability()` are one function."""
    names, _, folder = notebook
    import json

    words = ["exploitability", str(folder / "runs" / "notebook"), "--json"]
    shown = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)
    truth = {key: value for key, value in names["truth"].items() if key != "table"}
    assert shown == truth


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (lambda: spiral.load("nowhere"), "nowhere does not exist; give the directory that spiral.train wrote"),
        (lambda: spiral.load("."), r"\. holds neither a run nor a saved model"),
        (lambda: spiral.load("nowhere@3"), "nowhere is not a run"),
        (lambda: spiral.train("a.yaml", run_dir="x", resume=True), "resume continues the run in --run-dir"),
        (lambda: spiral.train(resume=True), "give --run-dir"),
        (lambda: spiral.train(learner={"epoch": 1}), r"unknown key 'learner.epoch'; did you mean 'learner.epochs'\?"),
        (lambda: spiral.train({"steps": "many"}), "steps is 'many'"),
        (lambda: spiral.train(["steps"]), "a configuration is a file's path, a mapping or a Config, not a list"),
        (lambda: spiral.build({"steps": 3}), "build takes what spiral.configure returns, not a dict"),
        (lambda: spiral.load("nowhere", steps=3), "a run keeps its own config; omit steps"),
        (lambda: spiral.configure(games={}), "games is {}"),
        (lambda: spiral.configure(health={"action": "rollback", "fallback": {"args": {"k": 1}}}), "with a name"),
    ],
)
def test_mistakes_are_one_sentence(asked, sentence, tmp_path, monkeypatch):
    """What was asked, what exists, what to do; nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(spiral.SpiralError, match=sentence):
        asked()
    assert not any(tmp_path.iterdir())


def test_a_match_against_a_person(notebook, monkeypatch, capsys):
    """`play` asks by input and shows by print; an illegal move is asked again."""
    names, _, _ = notebook
    lines = iter(["jump", *["check", "bet", "call", "fold"] * 20])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    returns = names["run"].play(player=0, seed=5)
    shown = capsys.readouterr().out
    assert "not legal" in shown
    assert returns == [] or sum(returns) == pytest.approx(0)
    assert "over: you get" in shown or "you win by forfeit" in shown


@pytest.mark.parametrize(
    ("asked", "message"), [(["random"], "named by text"), (["random", {"matches": 0}], "at least 1")]
)
def test_wrong_opponents_are_one_sentence(notebook, asked, message):
    """A list, a run, or no matches at all."""
    names, _, _ = notebook
    options = {"matches": 0} if asked[1:] else {}
    opponents = [asked] if not options else asked[:1]
    with pytest.raises(spiral.SpiralError, match=message):
        names["run"].evaluate(*opponents, **options)


def test_a_dotted_key_belongs_to_the_name_beside_it():
    """In one call, in either order of name and argument; tuples are lists, and an entry may be its name alone."""
    config = spiral.configure(advantage="turn_gae", **{"advantage.args.decay": 0.5})
    assert (config.advantage.name, config.advantage.args) == ("turn_gae", {"decay": 0.5})
    config = spiral.configure(games=("kuhn_poker", "pig_dice"), **{"games.0": "leduc_poker"})
    assert [game.name for game in config.games] == ["leduc_poker", "pig_dice"]


def test_a_run_that_is_being_written_can_be_read(notebook, tmp_path):
    """Half a last line, as a reader beside the training process may see it."""
    import shutil

    names, _, folder = notebook
    copy = shutil.copytree(folder / names["run"].path, tmp_path / "r")
    whole = len(spiral.Run(copy).episodes())
    for name in ("episodes.jsonl", "metrics.jsonl"):
        with (copy / name).open("a") as file:
            file.write('{"step": 9, "x')
    assert len(spiral.Run(copy).episodes()) == whole
    assert list(spiral.Run(copy).metrics().index) == list(range(7))


# The loop of the examples


def test_the_example_loop_is_short_and_uses_public_names_only():
    """Under 100 lines; of this project nothing but `spiral`."""
    text = LOOP.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name for name in imported if name.startswith("spiral")} == {"spiral"}
    used = set(re.findall(r"\bspiral\.(\w+)", text))
    assert used <= set(spiral.__all__)


def test_the_example_loop_runs(capsys, tmp_path, monkeypatch):
    """A few steps of it: exact NashConv is printed and returned."""
    monkeypatch.setenv("SPIRAL_CACHE", str(tmp_path))
    spec = importlib.util.spec_from_file_location("selfplay_loop", LOOP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    nash_conv = module.main(2)
    assert math.isfinite(nash_conv)
    assert 0 < nash_conv < 2
    assert f"NashConv {nash_conv:.3f}" in capsys.readouterr().out
