"""A run's configuration: layers, shorthands, swaps of plug-ins, every fault at once, and nothing unsound in silence."""

import dataclasses
import re
import typing

import pytest

from spiral.api.errors import ConfigError
from spiral.config.dropout import DropoutConfig
from spiral.config.loading import dump, load, parse_plugin
from spiral.config.schema import Config, GameConfig, PluginConfig
from spiral.plugins.registry import Plugins
from spiral.selfplay.validation import check


def _faults(overrides=(), path=None):
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value).splitlines()


def _file(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


# The demo


def test_without_anything_it_is_the_kuhn_demo():
    """`spiral train` alone: the tiny model learns Kuhn poker by self-play: a state baseline, magnet and anchor, one thread."""
    config = load()
    assert config.games == [GameConfig("kuhn_poker")]
    assert config.games[0].weight == 1.0
    names = {f: getattr(config, f).name for f in ("opponents", "advantage", "model", "engine", "prompt", "curriculum")}
    assert names == {
        "opponents": "mirror",
        "advantage": "nested",
        "model": "byte-0.1m",
        "engine": "torch",
        "prompt": "plain",
        "curriculum": "weighted",
    }
    assert [logger.name for logger in config.loggers] == ["tensorboard"]
    assert config.rewards == []
    assert (config.steps, config.seed, config.threads, config.rollout.episodes) == (1000, 0, 1, 512)
    assert (config.learner.lr, config.learner.kl, config.learner.ema) == (0.001, 0.8, 0.995)
    assert (config.learner.anchor, config.learner.anchor_end, config.learner.anchor_to) == (0.05, 0.1, "legal")
    assert (config.rollout.illegal, config.rollout.penalty) == ("forfeit", (-1.5, 0.5))


def test_a_config_cannot_be_changed():
    """Records are frozen: what was checked is what runs."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().steps = 3


# Layers and shorthands


def test_each_layer_lies_over_the_one_before(tmp_path):
    """Defaults, then the file, then overrides in order; keys that a layer leaves out stay."""
    path = _file(tmp_path, "steps: 7\nlearner: {lr: 0.5, kl: 0.0}\n")
    config = load(path, ["learner.lr=0.25", "seed=3", "seed=4"])
    assert (config.steps, config.seed) == (7, 4)
    assert (config.learner.lr, config.learner.kl, config.learner.ema) == (0.25, 0.0, 0.995)
    assert config.games == [GameConfig("kuhn_poker")]


@pytest.mark.parametrize(
    "words",
    [
        ["advantage=grpo"],
        ["advantage={name: grpo}"],
        ["advantage.name=grpo"],
        ["advantage={name: grpo, args: {}}"],
    ],
)
def test_a_plugin_by_name_alone(words):
    """`advantage=grpo` is short for the long form."""
    assert load(overrides=words).advantage == PluginConfig("grpo", {})


def test_a_plugin_by_name_alone_in_a_file(tmp_path):
    """The same shorthand in YAML, for one plug-in, one game and a list."""
    config = load(_file(tmp_path, "advantage: grpo\ngames: tic_tac_toe\nloggers: [a, {name: b, args: {k: 1}}]\n"))
    assert config.advantage == PluginConfig("grpo")
    assert config.games == [GameConfig("tic_tac_toe")]
    assert config.loggers == [PluginConfig("a"), PluginConfig("b", {"k": 1})]


def test_games_in_every_spelling():
    """One name, a list of names, mappings with arguments and weights; each replaces the demo's list."""
    assert load(overrides=["games=tic_tac_toe"]).games == [GameConfig("tic_tac_toe")]
    assert load(overrides=["games=[a,b]"]).games == [GameConfig("a"), GameConfig("b")]
    both = load(overrides=["games=[{name: a, weight: 2}, {name: b, args: {rounds: 3}}]"]).games
    assert both == [GameConfig("a", weight=2.0), GameConfig("b", {"rounds": 3})]
    assert load(overrides=["games={name: a, weight: 2}"]).games == [GameConfig("a", weight=2.0)]


def test_one_game_of_the_list_by_its_place(tmp_path):
    """`games.1.weight=3` changes the second game and leaves the rest."""
    path = _file(tmp_path, "games: [a, {name: b, args: {k: 1}}]\n")
    config = load(path, ["games.1.weight=3", "games.0.args.n=2"])
    assert config.games == [GameConfig("a", {"n": 2}), GameConfig("b", {"k": 1}, 3.0)]


def test_a_place_that_is_not_there_is_a_fault():
    """`games.3.weight=2` on a list of one is a mistake and never ignored."""
    [fault] = _faults(["games.3.weight=2"])
    assert "games" in fault
    assert "3" in fault


# Swapping


def test_another_name_drops_the_arguments_of_the_old_one(tmp_path):
    """What belonged to the plug-in that was replaced must not reach the new one, from file or override."""
    path = _file(tmp_path, "advantage: {name: rae, args: {decay: 0.5}}\nmodel: {name: m, args: {context: 9}}\n")
    assert load(path).advantage == PluginConfig("rae", {"decay": 0.5})
    assert load(path, ["advantage=grpo"]).advantage == PluginConfig("grpo", {})
    assert load(path, ["advantage.name=grpo"]).advantage == PluginConfig("grpo", {})
    assert load(path, ["advantage=rae"]).advantage == PluginConfig("rae", {"decay": 0.5})
    config = load(path, ["games.0.name=tic_tac_toe", "model=n"])
    assert (config.games, config.model) == ([GameConfig("tic_tac_toe")], PluginConfig("n", {}))


def test_a_swap_and_then_an_argument():
    """`advantage=grpo advantage.args.k=1` keeps both, which OmegaConf's from_dotlist does not."""
    assert load(overrides=["advantage=grpo", "advantage.args.k=1"]).advantage == PluginConfig("grpo", {"k": 1})
    words = ["advantage.args.decay=0.5", "advantage=grpo", "advantage.args.k=1", "advantage.args.z=x"]
    assert load(overrides=words).advantage == PluginConfig("grpo", {"k": 1, "z": "x"})


def test_arguments_keep_their_types():
    """Numbers, flags, null, text and lists arrive as what they are."""
    words = ["model.args.a=1", "model.args.b=1.5", "model.args.c=true", "model.args.d=null", "model.args.e=[1,x]"]
    assert load(overrides=words).model.args == {"a": 1, "b": 1.5, "c": True, "d": None, "e": [1, "x"]}


# Faults


def test_every_fault_is_reported_at_once(tmp_path):
    """File and overrides, unknown keys, wrong types and unsound values: one report."""
    path = _file(tmp_path, "stepz: 7\nlearner: {lr: fast}\n")
    faults = _faults(["rollout.gamez=3", "seed=x", "nonsense", "rollout.retries=-1", "evaluate=5"], path)
    text = "\n".join(faults)
    for part in ("stepz", "learner.lr", "rollout.gamez", "seed", "nonsense", "rollout.retries", "evaluate is 5"):
        assert part in text
    assert len(faults) == 7


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("stepz=3", "did you mean 'steps'"),
        ("learner.lrr=1", "did you mean 'learner.lr'"),
        ("warm_start.max_step=1", "did you mean 'warm_start.max_steps'"),
        ("qqqq=1", "known keys: .*steps"),
        ("learner.qqqq=1", "known keys: .*micro_batch_tokens"),
    ],
)
def test_unknown_keys_name_the_known_ones(word, hint):
    """A near miss is named in full; otherwise the keys that exist are listed."""
    with pytest.raises(ConfigError, match=f"unknown key '{word.split('=')[0]}'.*{hint}"):
        load(overrides=[word])


def test_an_unknown_key_inside_a_plugin_is_a_fault():
    """Arguments belong under `args`: `advantage.decay=0.5` says so and is not dropped."""
    [fault] = _faults(["advantage.decay=0.5"])
    assert "advantage" in fault
    assert "decay" in fault


@pytest.mark.parametrize(
    "word",
    [
        "steps=many",
        "steps=1.5",
        "rollout.illegal=resign",
        "learner.clip=wide",
        "evaluate.exploitability=perhaps",
        "advantage=[rae]",
        "games=5",
        "rollout.penalty=[1,2,3]",
    ],
)
def test_values_of_the_wrong_type_are_faults(word):
    """Each names its key."""
    faults = _faults([word])
    assert len(faults) == 1
    assert word.split("=")[0].split(".")[-1] in faults[0]


@pytest.mark.parametrize(
    "word",
    [
        "steps=0",
        "rollout.episodes=0",
        "rollout.group_size=0",
        "rollout.max_concurrent=0",
        "rollout.max_new_tokens=0",
        "rollout.retries=-1",
        "rollout.max_voided=-1",
        "learner.epochs=0",
        "learner.ema=1.0",
        "learner.ema=-0.1",
        "learner.reference_every=-1",
        "learner.dropout.rate=0.1",
        "learner.dropout.places=[probabilities]",
        "text.row_tokens=7",
        "learner.epochs=2",
        "learner.minibatches=0",
        "learner.minibatches=2",
        "learner.clip_high=0.28",
        "learner.importance_cap=0.5",
        "learner.micro_batch_tokens=0",
        "checkpoint.every=0",
        "evaluate.matches=0",
        "games=[]",
        "games=[{name: a, weight: 0}]",
        "games=[{name: a, weight: -1}]",
        "rollout.group_size=7",
        "threads=0",
    ],
)
def test_unsound_values_are_refused(word):
    """A value of the right type that would train something else than asked, or nothing, is one fault with a reason."""
    [fault] = _faults([word])
    assert word.split("=")[0].split(".")[-1] in fault


@pytest.mark.parametrize(
    "word", ["evaluate.every=0", "warm_start.max_steps=0", "rollout.retries=3", "checkpoint.keep=0"]
)
def test_switches_that_mean_off_are_fine(word):
    """0 turns evaluation, warm start and pruning off."""
    key, value = word.split("=")
    group, name = key.split(".")
    assert getattr(getattr(load(overrides=[word]), group), name) == int(value)


@pytest.mark.parametrize(
    "word",
    [
        "learner.lr=-0.001",
        "learner.clip=-0.2",
        "learner.max_grad_norm=-1",
        "learner.ratio_tolerance=-1",
        "learner.lr=nan",
        "learner.kl=nan",
        "learner.ratio_tolerance=nan",
        "learner.warmup_steps=-1",
        "rollout.deadline_s=0",
        "warm_start.max_steps=-1",
        "checkpoint.keep=-1",
        "games=[{name: a, weight: nan}]",
        "warm_start.dropout.rate=1.5",
        "warm_start.dropout.cycles=0",
        "warm_start.dropout.switch=1.5",
        "learner.decay=1.5",
    ],
)
def test_more_values_that_would_bias_or_break_in_silence(word):
    """Descent in the wrong direction, a guard that never fires (NaN compares false), a keep that deletes everything."""
    assert _faults([word])


def _real_keys(schema=Config, prefix=""):
    """Every key of the schema that takes a real number, as an override with a hole for it."""
    for key, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint) and hint is not PluginConfig:
            yield from _real_keys(hint, f"{prefix}{key}.")
        elif hint in (float, float | None):
            yield f"{prefix}{key}={{}}"
        elif hint == tuple[float, float]:
            yield from (f"{prefix}{key}=[{{}},1]", f"{prefix}{key}=[1,{{}}]")
        elif hint == tuple[tuple[float, float], ...]:
            yield from (f"{prefix}{key}=[[{{}},0.5]]", f"{prefix}{key}=[[0.5,{{}}]]")
        elif dataclasses.is_dataclass(inside := (typing.get_args(hint) or (None,))[0]) and inside is GameConfig:
            yield f"{prefix}{key}.0.weight={{}}"
        else:
            assert not re.search(r"\bfloat\b", str(hint)), f"{prefix}{key}: {hint} is not tried"


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_every_real_number_of_the_schema_is_finite(number):
    """NaN compares false and infinity divides to 0: each would train something, and in silence something else."""
    words = [*_real_keys()]
    assert {"games.0.weight={}", "rollout.penalty=[{},1]", "learner.clip={}", "rollout.deadline_s={}"} <= {*words}
    for word in words:
        faults = _faults([word.format(number)])
        assert any("must be a finite number" in fault for fault in faults), word
        assert all(fault.startswith(word.partition("=")[0].partition(".0")[0]) for fault in faults)


@pytest.mark.parametrize("word", ["learner.epochs=2", "learner.minibatches=4", "learner.clip_high=0.28"])
def test_off_policy_steps_with_a_clip_are_fine(word):
    """More passes and more optimiser steps a pass are sound once the ratio is clipped; the clip may be wider above."""
    assert load(overrides=[word, "learner.clip=0.2"]).learner.clip == 0.2


def test_files_that_cannot_be_read(tmp_path):
    """Missing, not YAML, not a mapping: one sentence each with the path."""
    for text, part in ((None, "cannot be read"), ("a: [1", "not valid YAML"), ("- 1\n- 2\n", "not keys and values")):
        path = tmp_path / "missing.yaml" if text is None else _file(tmp_path, text)
        [fault] = _faults(path=path)
        assert str(path) in fault
        assert part in fault


def test_an_empty_file_changes_nothing(tmp_path):
    """A file of comments is the demo."""
    assert load(_file(tmp_path, "# nothing\n")) == load()


# Round trip


def test_what_is_dumped_is_read_back(tmp_path):
    """The config that a run directory keeps is the config of the run, plug-in arguments and nested tuples included."""
    words = [
        "games=[{name: a, weight: 2.5}, {name: b, args: {rounds: 3, deck: [J, Q]}}]",
        "opponents={name: fixed, args: {opponent: random, args: {k: null}}}",
        "warm_start.dropout={rate: 0.1, schedule: linear_down, ramp: 0.5, places: [embeddings]}",
        "evaluate.opponents=['random','minimax:depth=3']",
        "learner.clip=0.2",
        "rollout.illegal=penalty",
        "loggers=[]",
        "rewards=[x]",
        "learner.lr=1e-05",
    ]
    config = load(overrides=words)
    assert config.warm_start.dropout == DropoutConfig(0.1, "linear_down", ramp=0.5, places=["embeddings"])
    assert load(_file(tmp_path, dump(config))) == config
    assert load(_file(tmp_path, dump(load()))) == load()


def test_a_bot_on_the_command_line():
    """`name` or `name:key=value,key=value`, values typed."""
    assert parse_plugin("random") == PluginConfig("random")
    assert parse_plugin("minimax:depth=3,noise=0.5") == PluginConfig("minimax", {"depth": 3, "noise": 0.5})


def test_a_bot_that_cannot_play_a_game_is_found_before_a_model_loads():
    """`perfect` has nothing to search in Kuhn poker: one sentence that names the game, before anything heavy."""
    with pytest.raises(ConfigError, match="game kuhn_poker: The bot perfect cannot play"):
        check(load(None, ["evaluate.opponents=[perfect]"]), Plugins.installed())
    with pytest.raises(ConfigError, match="game kuhn_poker: The bot perfect cannot play"):
        check(load(None, ["opponents={name: fixed, args: {opponent: perfect}}"]), Plugins.installed())
