"""Defaults that follow the model: those of a pretrained one lie under whatever the user says, and the core asks plug-ins."""

import json

import pytest
import torch
from safetensors.torch import save_file
from spiral_models import MODELS

from spiral.api.errors import ConfigError
from spiral.api.hooks import hookimpl
from spiral.config.loading import dump, load, read, read_layers
from spiral.config.pretrained import learning_rate
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins
from spiral.training.session import Policy

PLUGINS = Plugins.installed()
FIND = find_model(PLUGINS)


@pytest.fixture
def folder(tmp_path):
    """A model folder as far as a config reads it: what kind it is, and how many numbers it holds."""
    path = tmp_path / "models" / "small"
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"a": torch.zeros(1000, 4000), "b": torch.zeros(1_000_000)}, path / "model.safetensors")
    return path


def _load(*overrides, path=None):
    return load(path, overrides, FIND)


def test_a_folder_is_a_model(folder):
    """`model=PATH` is the plug-in that reads folders, with that path."""
    config = _load(f"model={folder}")
    assert (config.model.name, config.model.args) == ("hf", {"path": str(folder)})
    assert _load(f"model={folder}", "model.args.context=64").model.args == {"path": str(folder), "context": 64}
    assert _load({"model": {"name": "hf", "args": {"path": str(folder)}}}) == config


def test_a_pretrained_model_has_its_own_defaults(folder):
    """Told the rules, no warm start, no second model of any kind, a learning rate of its size, steps that fit."""
    config = _load(f"model={folder}")
    assert config.prompt.name == "chat"
    assert config.prompt.name != "plain"
    assert config.warm_start.max_steps == 0
    assert (config.learner.kl, config.learner.anchor, config.learner.ema) == (0, 0, 0)
    assert config.learner.lr == learning_rate(5_000_000) == 1e-4
    assert config.rollout.max_new_tokens > load().rollout.max_new_tokens
    assert config.rollout.episodes < load().rollout.episodes
    assert config.learner.micro_batch_tokens < load().learner.micro_batch_tokens


def test_what_the_user_says_lies_over_them(folder, tmp_path):
    """A file and the command line, also where the file names the model and the command line the rest."""
    file = tmp_path / "run.yaml"
    file.write_text(f"model: {folder}\nlearner: {{kl: 0.5}}\n")
    config = _load("learner.lr=7e-6", "prompt=plain", path=file)
    assert (config.learner.kl, config.learner.lr, config.prompt.name) == (0.5, 7e-6, "plain")
    assert config.prompt.args == {}
    assert config.warm_start.max_steps == 0


def test_random_weights_keep_the_demos_defaults(folder):
    """No plug-in says that it is pretrained: nothing changes; nor for a byte model's folder, which knows only games."""
    assert load(find_model=FIND) == load()
    assert _load("model=byte-1m").learner == load().learner
    (folder / "config.json").write_text(json.dumps({"model_type": "spiral-byte"}))
    config = _load(f"model={folder}")
    assert (config.model.name, config.prompt, config.learner) == ("hf", load().prompt, load().learner)


def test_a_saved_byte_model_knows_nothing_but_games(tmp_path):
    """The name by which a folder says so is that of the byte models' own config."""
    model, tokenizer = MODELS["byte-0.1m"]()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert FIND({"name": str(tmp_path)}, {}).num_parameters is None


def test_sharded_weights_are_counted_by_their_index(folder):
    """Only the files that the index names."""
    save_file({"c": torch.zeros(10)}, folder / "model-00001-of-00002.safetensors")
    save_file({"d": torch.zeros(7)}, folder / "model-00002-of-00002.safetensors")
    names = {"c": "model-00001-of-00002.safetensors", "d": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert FIND({"name": str(folder)}, {}).num_parameters == 17


def test_any_plug_in_may_say_that_its_model_is_pretrained():
    """A stranger's factory with `num_pretrained` gets the same defaults: the core knows no name."""

    def theirs(layers: int = 2):
        raise AssertionError("a config makes no model")

    theirs.num_pretrained = lambda layers=2: layers * 1_000_000_000

    class Theirs:
        @hookimpl
        def register_models(self, register):
            register("theirs", theirs)

    plugins = Plugins.installed()
    plugins.add(Theirs(), "theirs")
    config = load(None, ["model=theirs", "model.args.layers=4"], find_model(plugins))
    assert (config.learner.lr, config.warm_start.max_steps) == (1e-6, 0)


def test_a_folder_that_is_not_there_is_named_by_the_plug_in(tmp_path):
    """A text with a slash is a folder, so that the error says what is missing and not that no plug-in is called so."""
    config = _load(f"model={tmp_path}/nowhere")
    assert (config.model.name, config.model.args["path"]) == ("hf", f"{tmp_path}/nowhere")
    assert config.warm_start == load().warm_start
    _, problems = read(None, ["model=[1]"], FIND)
    assert any(problem.startswith("model is") for problem in problems)


def test_what_is_written_is_the_merged_config(folder, tmp_path):
    """config.yaml says everything, and is read back to an equal one without asking what the model is."""
    config = _load(f"model={folder}", "learner.kl=0.25")
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load(tmp_path / "config.yaml") == config
    assert _load(path=tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("parameters", "rate"), [(135_000_000, 3e-5), (4_000_000_000, 1e-6), (10_000, 1e-4), (70_000_000_000, 2e-7)]
)
def test_the_learning_rate_falls_with_the_size(parameters, rate):
    """One over the number of parameters, to two digits, between two bounds."""
    assert learning_rate(parameters) == rate


@pytest.mark.parametrize("method", ["lora", "{name: lora, args: {rank: 4}}"])
def test_an_adapter_has_ten_times_the_learning_rate(folder, method):
    """Of a pretrained model and of the demo's; what the user says lies over it, and full training keeps its own."""
    words = [f"learner.method={method}"]
    assert _load(f"model={folder}", *words).learner.lr == 10 * learning_rate(5_000_000) == 1e-3
    assert _load(*words).learner.lr == 10 * load().learner.lr
    assert _load(f"model={folder}", *words, "learner.lr=2e-5").learner.lr == 2e-5
    assert _load(f"model={folder}", "learner.method=full").learner.lr == 1e-4
    layers, _ = read_layers(None, [f"model={folder}", *words], FIND)
    assert [layer.source for layer in layers[:4]] == [
        "defaults", "pretrained defaults", "the model's size", "the learner's method",
    ]  # fmt: skip


def test_any_learner_may_say_what_its_learning_rate_is_times():
    """By a member of its factory; a name that is not installed changes nothing, and is reported elsewhere."""

    def theirs(setup):
        raise AssertionError("a config makes no learner")

    theirs.lr_factor = 0.5

    class Theirs:
        @hookimpl
        def register_learners(self, register):
            register("theirs", theirs)

    plugins = Plugins.installed()
    plugins.add(Theirs(), "theirs")
    assert load(None, ["learner.method=theirs"], find_model(plugins)).learner.lr == load().learner.lr / 2
    assert _load("learner.method=nobodys").learner.lr == load().learner.lr


def test_a_saved_model_that_is_played_is_asked_by_its_own_defaults(folder):
    """`spiral evaluate FOLDER --game G`: the prompt that a pretrained model gets, and not the demo's."""
    assert Policy.named(str(folder), "kuhn_poker")._config.prompt == _load(f"model={folder}").prompt


def test_an_unsound_value_is_still_found(folder):
    """The rules hold over all layers."""
    with pytest.raises(ConfigError, match="learner.epochs is 2"):
        _load(f"model={folder}", "learner.epochs=2")
