"""A folder that was changed is another model, wherever a model is known by its path."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from spiral.api.errors import RunError
from spiral.config import loading as config
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.selfplay import setup as assemble
from spiral.training.initial_weights import warm_start_weights
from spiral.training.loop import train

SMALL = [
    "steps=1", "rollout.episodes=4", "warm_start={max_steps: 2, legal: 0.0, batch: 8}", "evaluate.every=0",
    "checkpoint.every=1", "loggers=[]", "learner.kl=0",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A saved byte model."""
    monkeypatch.setenv("SPIRAL_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(1)
    model, tokenizer = Plugins.installed().make("model", "byte-0.1m", context=64)
    model.save_pretrained(tmp_path / "hf")
    tokenizer.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def replace_weights(folder):
    """Other weights of the same shapes under the same name."""
    file = folder / "model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(file).items()}, file, {"format": "pt"})


def run(path, *words, resume=False):
    plugins, asked = Plugins.installed(), config.load(None, [*SMALL, *words])
    opened = RunDir.open(path)[0] if resume else RunDir.create(path, asked, plugins.distributions)
    train(asked, opened, plugins, lambda *_: None, resume)
    return opened


def started(folder):
    """The weights that a run begins with, and whether a warm start was trained for them."""
    asked, updates = config.load(None, [*SMALL, f"model={{name: hf, args: {{path: {folder}}}}}"]), []
    setup = assemble.make_play_setup(asked, Plugins.installed())
    warm_start_weights(asked, setup, Plugins.installed(), lambda *progress: updates.append(progress))
    return {name: weight.clone() for name, weight in parameters(setup.model).items()}, bool(updates)


def test_a_changed_folder_is_warm_started_anew(folder):
    """A folder that was changed is another model: no warm start that was kept for the old one is used for it.

    An unchanged one still is, bit for bit.
    """
    first, trained = started(folder)
    assert trained
    again, trained = started(folder)
    assert not trained
    assert all(torch.equal(first[name], again[name]) for name in first)
    replace_weights(folder)
    other, trained = started(folder)
    assert trained
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("part", ["weights", "tokenizer"])
def test_a_run_is_not_resumed_with_a_changed_model(folder, tmp_path, part):
    """A run is not resumed with another model or another member of its pool than those that it began with."""
    words = f"model={{name: hf, args: {{path: {folder}}}}}"
    run(tmp_path / "run", words)
    shutil.copytree(tmp_path / "run", tmp_path / "same")
    run(tmp_path / "same", words, "steps=2", resume=True)
    if part == "weights":
        replace_weights(folder)
    else:
        (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    with pytest.raises(RunError, match=rf"{folder} is not what run .* began with: files were changed since"):
        run(tmp_path / "run", words, "steps=2", resume=True)


def test_a_run_is_not_resumed_with_a_changed_member(folder, tmp_path):
    """Its results belong to the one that played: a saved model, and another run's checkpoint trained anew."""
    other = run(tmp_path / "other", "model.args.context=64")
    members = [f"model:{folder}", f"run:{other.path}@1"]
    words = [
        "model.args.context=64",
        "opponents={name: mixture, args: {weights: {members: 1}}}",
        f"pool.members={members}",
    ]
    run(tmp_path / "run", *words)
    assert set(RunDir(tmp_path / "run").read_from()) == set(members)
    replace_weights(folder)
    with pytest.raises(RunError, match=rf"^model:{folder} is not what"):
        run(tmp_path / "run", *words, "steps=2", resume=True)
    weights = other.checkpoint(1) / "model" / "model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(weights).items()}, weights)
    with pytest.raises(RunError, match=rf"^model:{folder}, run:{other.path}@1 is not what"):
        run(tmp_path / "run", *words, "steps=2", resume=True)


def test_runs_share_an_engine_if_their_models_were_read_from_the_same_content(folder, tmp_path):
    """By the same path from other content, such as another tokenizer, a member is asked as it was trained."""
    words = f"model={{name: hf, args: {{path: {folder}}}}}"
    other = run(tmp_path / "other", words)

    def shares():
        asked = config.load(None, [*SMALL, words, "opponents=mixture", f"pool.members=['run:{other.path}@1']"])
        made = assemble.make_play_setup(asked, Plugins.installed())
        assemble.add_members(asked, made)
        return made.pool.completer_of(f"run:{other.path}@1") is made.completer

    assert shares()
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert not shares()


def test_a_damaged_record_is_one_sentence(tmp_path):
    (tmp_path / "read_from.json").write_text("[", encoding="utf-8")
    with pytest.raises(RunError, match=r"read_from.json is damaged; put it back, or delete it"):
        RunDir(tmp_path).read_from()
