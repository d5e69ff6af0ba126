"""`spiral train --show`: the config as resolved, where each value came from, and YAML that gives the same config."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from spiral.commands.main import main
from spiral.config.loading import load
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "small"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"a": torch.zeros(200_000_000, dtype=torch.uint8)}, path / "model.safetensors")
    return path


def _show(*words):
    done = CliRunner().invoke(main, ["train", "--show", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def _sources(text):
    """Dotted key -> (value, source)."""
    found, path = {}, []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip(" -"))
        key, _, rest = line.lstrip(" -").partition(":")
        path = [*path[: depth // 2], key]
        value, _, source = rest.strip().rpartition("  # ")
        if source:
            found[".".join(path)] = (value, source)
    return found


def test_each_value_says_where_it_came_from(folder, tmp_path):
    """The defaults, those of a pretrained model and of its size, a file and the command line: the last that said it."""
    file = tmp_path / "run.yaml"
    file.write_text("steps: 7\nlearner: {entropy: 0.01}\nrollout: {episodes: 8}\n")
    said = _sources(_show(file, f"model={folder}", "rollout.episodes=4", "advantage=reinforce"))
    assert said["steps"] == ("7", str(file))
    assert said["learner.entropy"] == ("0.01", str(file))
    assert said["rollout.episodes"] == ("4", "command line")
    assert said["warm_start.max_steps"] == ("0", "pretrained defaults")
    assert said["learner.lr"] == ("2.0e-05", "the model's size")
    assert said["learner.weight_decay"] == ("0.0", "defaults")
    assert said["games.name"] == ("kuhn_poker", "defaults")
    assert said["advantage.name"] == ("reinforce", "command line")
    assert said["model.name"] == ("hf", "command line")
    assert said["model.args.path"] == (str(folder), "command line")


def test_what_is_shown_can_be_fed_back(folder, tmp_path):
    """As a config file it gives the same run, whatever the layers were."""
    words = [
        f"model={folder}", "games=[kuhn_poker,{name: tic_tac_toe, weight: 2.5}]", "rewards=[format_bonus]",
        "warm_start.dropout.rate=0.1", "pool={every: 5, members: [random]}", "opponents=mixture",
        "learner.clip=0.2",
    ]  # fmt: skip
    file = tmp_path / "shown.yaml"
    file.write_text(_show(*words))
    assert load(file) == load(None, words, find_model(Plugins.installed()))


def test_a_value_of_the_environment_is_shown_as_the_reference(tmp_path, monkeypatch):
    """No secret is printed."""
    monkeypatch.setenv("SPIRAL_TEST_KEY", "hidden")
    text = _show("model={name: hf, args: {path: '${oc.env:SPIRAL_TEST_KEY}'}}")
    assert "${oc.env:SPIRAL_TEST_KEY}" in text
    assert "hidden" not in text


def test_a_faulty_config_is_told_and_not_shown():
    """Exit code 2 and the sentence, as in training."""
    done = CliRunner().invoke(main, ["train", "--show", "steps=0"])
    assert done.exit_code == 2
    assert "steps is 0, and must be at least 1" in done.output


def test_a_run_that_would_go_on_shows_its_own_config(tmp_path):
    """With --resume everything came from the run, but for what the command changes; nothing is trained or made."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(_show("steps=3"))
    said = _sources(_show("--resume", "--run-dir", tmp_path / "run", "steps=9"))
    assert said["steps"] == ("9", "command line")
    assert said["learner.lr"][1] == str(tmp_path / "run" / "config.yaml")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml"]
