"""How policies are named: one text, one policy; and the same words in every command."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from spiral.api.errors import RunError, SpiralError
from spiral.commands.main import main
from spiral.config.loading import parse_plugin
from spiral.plugins.registry import Plugins, label
from spiral.policies.reference import PolicyRef

VALUES = [
    1, 2, 1.5, True, None, "1,b=2", "1", "1.5", "a", "true", "True", "null", "None", "nan", "1e3", "0x1f", "", " ", "a b",
    'q"x,c=1', "back\\slash", "x: y", "#c", "a#b", "~", "-", "a:", "a,b", "=x", "[a]", "{a}", "*a", "&a", "!t", "'q'",
    "a\nb", "é", "yes", "2020-01-01", "${oc.env:HOME}", "http://127.0.0.1:1/v1", "llama3.1:8b", ["a", 1], {"s": 1},
    {"t": "u,v=w"},
]  # fmt: skip


def test_different_arguments_have_different_names_that_are_read_back():
    """A name stands in records and metrics for what played: `{a: "1,b=2"}` and `{a: 1, b: 2}` are two."""
    found = {}
    for args in [{"a": v} for v in VALUES] + [{"a": v, "b": w} for v, w in itertools.product(VALUES, VALUES[5::6])]:
        name = label("bot", args)
        assert name not in found, (name, args, found.get(name))
        found[name] = args
        read = parse_plugin(name).args
        assert (read, type(read["a"])) == (args, type(args["a"])), name
        assert PolicyRef.parse(str(PolicyRef("bot", "bot", args))).args == args


def test_plain_arguments_are_written_as_they_are_typed():
    args = {"model": "llama3.1:8b", "url": "http://127.0.0.1:8000/v1", "max_calls": 5}
    assert label("remote", args) == "remote(max_calls=5,model=llama3.1:8b,url=http://127.0.0.1:8000/v1)"


@pytest.mark.parametrize(
    ("text", "path", "step"),
    [
        ("run:some@where/run", "some@where/run", None),
        ("run:some@where/run@7", "some@where/run", 7),
        ("run:some@where/", "some@where", None),
        ("run:/a@b/c@d/run@0", "/a@b/c@d/run", 0),
        ("run:run@12", "run", 12),
        ("run:run", "run", None),
    ],
)
def test_a_step_stands_behind_the_last_slash(text, path, step):
    """An `@` before it belongs to a folder's name."""
    ref = PolicyRef.parse(text)
    assert (ref.path, ref.step) == (Path(path), step)
    assert PolicyRef.parse(str(ref)) == ref


@pytest.mark.parametrize("asked", ["1.5", "second:last", "two words", "1:second", "second:"])
def test_what_is_neither_a_step_nor_a_policy_is_refused(asked):
    with pytest.raises(RunError, match=f"a@b/run@{asked} asks for '{asked}', which is neither a step nor a policy"):
        PolicyRef.parse(f"run:a@b/run@{asked}")


@pytest.mark.parametrize(("text", "step"), [("run:a@b/run@second", None), ("run:a@b/run@second:12", 12)])
def test_a_policy_that_is_trained_beside_the_main_one_has_a_name(text, step):
    ref = PolicyRef.parse(text)
    assert (ref.path, ref.learner, ref.step) == (Path("a@b/run"), "second", step)
    assert str(ref) == text


def spiral(*words, code=0, typed=None):
    done = CliRunner().invoke(main, [str(word) for word in words], input=typed, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two checkpoints, in a folder with an `@` in its name."""
    path = tmp_path_factory.mktemp("some@where") / "run"
    words = ["steps=2", "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=0", "checkpoint.every=1"]
    spiral("train", *words, "loggers=[]", "model.args.context=64", "--run-dir", path)
    return path


def names(run):
    """The words that name a policy, the step that tables show, and what tells a model or a bot its game."""
    model, game = run / "checkpoints" / "step-000001" / "model", ["--game", "kuhn_poker"]
    of_run = [(str(run), 2, []), (f"{run}@1", 1, []), (f"run:{run}@1", 1, [])]
    return [*of_run, (f"model:{model}", 0, game), (str(model), 0, game), ("random", 0, game)]


def test_every_command_takes_every_name(run, tmp_path):
    """`spiral eval`, `exploitability`, `play`, `tournament`: a run, its checkpoint, a saved model and a bot have one name
    each; `--game` says what a model or a bot plays."""
    for number, (word, step, game) in enumerate(names(run)):
        (first, *_) = json.loads(spiral("eval", word, *game, "--games", 1, "--opponent", f"{run}@1", "--json"))
        assert (first["step"], first["opponent"]) == (step, f"run:{run}@1")
        typed = "bet\nbet\nbet\nbet\n"
        shown = CliRunner().invoke(main, ["play", word, *game, "--seed", "3"], input=typed, catch_exceptions=False)
        assert "Kuhn poker for two players" in shown.output
        if word == "random":
            said = spiral("exploitability", word, *game, code=2)
            assert "random is a bot, whose probabilities are not known; name a run or a saved model" in said
        else:
            assert json.loads(spiral("exploitability", word, *game, "--json"))["step"] == step
        other = "equilibrium" if word == "random" else "random"
        spiral("tournament", word, other, "--game", "kuhn_poker", "--games", 2, "--out", tmp_path / str(number))


def test_a_game_of_a_bot_may_have_arguments(run):
    """NAME:key=value, as everywhere; and of a run's games too."""
    rows = json.loads(
        spiral("eval", "random", "--game", "kuhn_poker:rounds=2", "--opponent", "random", "--games", 1, "--json")
    )
    assert {row["game"] for row in rows} == {"kuhn_poker(rounds=2)"}
    assert "Kuhn poker for two players" in spiral(
        "play", "random", "--game", "kuhn_poker", "--seed", 1, typed="bet\nbet\n"
    )
    assert "it has: kuhn_poker" in spiral("eval", run, "--game", "kuhn_poker:rounds=2", code=2)


@pytest.mark.parametrize("command", ["eval", "play", "exploitability"])
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nobody", "nobody is neither a run directory nor a bot: no bot named 'nobody'"),
        ("{run}@9", "has no checkpoint of step 9; it has: 1, 2"),
        ("{folder}", "is no run: {folder} has no config.yaml"),
        ("random", "no game is named, and random is no run that tells which; give --game"),
    ],
)
def test_a_wrong_name_is_one_sentence(command, word, said, run, tmp_path):
    output = spiral(command, word.format(run=run, folder=tmp_path), code=2)
    assert said.format(folder=tmp_path) in output
    assert len(output.splitlines()) == 1


def test_best_response_takes_runs_by_the_same_words(run, tmp_path):
    small = ["--steps", 1, "--games", 2, "warm_start.max_steps=0", "rollout.episodes=8"]
    assert f"run:{run}@1" in spiral("best-response", f"run:{run}@1", *small, "--run-dir", tmp_path / "a")
    model = run / "checkpoints" / "step-000001" / "model"
    assert "is a saved model" in spiral("best-response", model, *small, "--run-dir", tmp_path / "b", code=2)


def test_the_name_of_a_policy_is_looked_up_once(run, tmp_path):
    """A directory of the whole name comes first."""
    shutil.copytree(run, tmp_path / "run@1")
    assert PolicyRef.found(str(tmp_path / "run@1"), Plugins.installed()).path == tmp_path / "run@1"
    with pytest.raises(SpiralError, match="neither a run directory nor a bot"):
        PolicyRef.found(str(tmp_path / "none"), Plugins.installed())
