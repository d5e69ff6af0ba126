"""`${oc.env:KEY}` in a config: what plug-ins get is the value, what is written is the reference."""

import copy
import pickle
from dataclasses import asdict

import pytest

from spiral.api.errors import ConfigError
from spiral.api.hooks import hookimpl
from spiral.config.loading import as_written, dump, load, resolved
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.selfplay.validation import check
from spiral.training.loop import train

FILE = """
games: [{name: kuhn_poker}]
opponents: {name: fixed, args: {opponent: keyed, args: {key: "${oc.env:SPIRAL_TEST_KEY}"}}}
evaluate: {every: 1, matches: 1, opponents: ["keyed:key=${oc.env:SPIRAL_TEST_KEY},more=a-${oc.env:SPIRAL_TEST_KEY}"]}
loggers: [{name: keyed, args: {key: "${oc.env:SPIRAL_TEST_KEY}"}}, tensorboard]
steps: ${oc.decode:${oc.env:SPIRAL_TEST_STEPS,1}}
rollout: {episodes: 4}
warm_start: {max_steps: 0}
"""


class Keyed:
    """A bot and a logger with a secret; both remember what they are told."""

    told: list = []  # noqa: RUF012

    def __init__(self, *run_dir, key: str, more: str = ""):
        self.told.append((key, more))

    def choose(self, game, player, rng):
        return sorted(game.legal_moves())[0]

    @hookimpl
    def run_started(self, config):
        self.told.append(config)


class Plugin:
    @hookimpl
    def register_bots(self, register):
        register("keyed", Keyed)

    @hookimpl
    def register_loggers(self, register):
        register("keyed", Keyed)


def _train(path, config, resume):
    Keyed.told = []
    plugins = Plugins.installed()
    plugins.add(Plugin(), "keyed")
    check(config, plugins)
    run = RunDir(path) if resume else RunDir.create(path, config, {})
    train(config, run, plugins, lambda *_: None, resume)
    return Keyed.told


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIRAL_TEST_KEY", "hush-1")
    (tmp_path / "config.yaml").write_text(FILE)
    return tmp_path / "config.yaml"


def test_a_secret_reaches_plug_ins_and_no_file_of_the_run(file, tmp_path, monkeypatch):
    """Nor the names of policies in metrics and records, nor hooks; a resumed run reads the environment again."""
    told = _train(tmp_path / "run", load(file), resume=False)
    assert {("hush-1", ""), ("hush-1", "a-hush-1")} == {one for one in told if isinstance(one, tuple)}
    assert "hush" not in str([one for one in told if isinstance(one, dict)])
    monkeypatch.setenv("SPIRAL_TEST_KEY", "hush-2")
    monkeypatch.setenv("SPIRAL_TEST_STEPS", "7")
    _, config = RunDir.open(tmp_path / "run")
    assert config.steps == 1  # a setting of the run stays as it was
    told = _train(tmp_path / "run", load(tmp_path / "run" / "config.yaml", ["steps=2"]), resume=True)
    assert {("hush-2", ""), ("hush-2", "a-hush-2")} == {one for one in told if isinstance(one, tuple)}
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"config.yaml", "report.html", "metrics.jsonl", "episodes.jsonl", "state.json"} <= {p.name for p in files}
    for path in files:
        assert b"hush" not in path.read_bytes(), path
    for name in ("config.yaml", "report.html"):
        assert "${oc.env:SPIRAL_TEST_KEY}" in (tmp_path / "run" / name).read_text()


def test_a_config_with_references_is_read_back_from_what_is_written(file, tmp_path):
    config = load(file)
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml") == config
    assert load(overrides=[asdict(config)]) == config


def test_from_the_command_line_too(file):
    config = load(overrides=["loggers=[{name: keyed, args: {key: '${oc.env:SPIRAL_TEST_KEY}'}}]"])
    assert config.loggers[0].args == {"key": "${oc.env:SPIRAL_TEST_KEY}"}
    assert load(overrides=["model=${oc.env:SPIRAL_TEST_MODEL,byte-1m}"]).model.name == "byte-1m"


def test_a_variable_that_is_not_set_is_one_sentence_at_the_start(file, monkeypatch):
    """In an argument, a policy's text and a setting alike."""
    monkeypatch.delenv("SPIRAL_TEST_KEY")
    plugins = Plugins.installed()
    plugins.add(Plugin(), "keyed")
    with pytest.raises(ConfigError) as caught:
        check(load(file), plugins)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all("Environment variable 'SPIRAL_TEST_KEY' not found" in line for line in lines)
    with pytest.raises(ConfigError, match=r"^steps is '\$\{oc.env:SPIRAL_TEST_KEY\}': .*; set the variable"):
        load(overrides=["steps=${oc.env:SPIRAL_TEST_KEY}"])
    with pytest.raises(ConfigError, match="^steps cannot be resolved: Interpolation key 'nope' not found"):
        load(overrides=["steps=${nope}"])


def test_a_value_that_does_not_fit_is_not_shown(file):
    """The message may go to a log."""
    problem = Plugins.installed().problem("game", "kuhn_poker", {"rounds": "${oc.env:SPIRAL_TEST_KEY}"})
    assert "argument rounds is '${oc.env:SPIRAL_TEST_KEY}', not " in problem


def test_a_resolved_value_is_the_text_and_knows_its_reference(file):
    args = {"a": ["${oc.env:SPIRAL_TEST_KEY}", 1], "b": {"c": "x${oc.env:SPIRAL_TEST_KEY}"}, "d": "${steps}"}
    found = resolved(args)
    assert found == {"a": ["hush-1", 1], "b": {"c": "xhush-1"}, "d": "${steps}"}
    assert f"{found['a'][0]}" == "hush-1"
    for one in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):  # as games are copied
        assert one == found
        assert as_written(one) == args
