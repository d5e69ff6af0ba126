"""A run from elsewhere: what its files name outside of it is used only when the user names it too.

The docstring of a test begins with the sentence of docs/trust.md that it holds; tests/contract/test_trust.py compares.
"""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from spiral import hookimpl
from spiral.commands.main import main
from spiral.plugins.registry import Plugins
from spiral.testing import ChatServer

TINY = [
    "steps=1", "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=0", "checkpoint.every=1", "loggers=[]",
    "model.args.context=64",
]  # fmt: skip
KEY = "SPIRAL_TEST_SECRET"


def spiral(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the demo's model."""
    path = tmp_path_factory.mktemp("own") / "run"
    spiral("train", *TINY, "--run-dir", path)
    return path


@pytest.fixture(scope="module")
def saved_folder(trained, tmp_path_factory):
    """A run that started from a saved model, whose folder is gone by now."""
    folder = tmp_path_factory.mktemp("hf")
    shutil.copytree(trained / "checkpoints" / "step-000001" / "model", folder / "base")
    spiral("train", *TINY[:-1], f"model={{name: hf, args: {{path: {folder / 'base'}}}}}", "--run-dir", folder / "run")
    return folder


def elsewhere(run, path, **changes):
    """A copy of a run, whose config says something else."""
    shutil.copytree(run, path)
    config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *groups, last = key.split("__")
        part = config
        for group in groups:
            part = part[group]
        part[last] = value
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    with ChatServer(lambda request: "pass") as made:
        yield made


@pytest.fixture
def planted(trained, tmp_path, server):
    """A run that names a remote player, with a key, wherever a config can name a policy."""
    remote = f"remote:model=m,url={server.url},key_env={KEY}"
    fixed = {"name": "fixed", "args": {"opponent": "remote", "args": {"model": "m", "url": server.url, "key_env": KEY}}}
    return elsewhere(
        trained,
        tmp_path / "planted",
        evaluate__opponents=[{"policy": remote}, {"policy": "random"}],
        pool__members=[{"policy": remote}],
        opponents=fixed,
        loggers=[{"name": "wandb", "args": {"project": "stolen"}}],
    )


def test_no_command_but_train_calls_what_only_a_run_names(planted, trained, server, tmp_path, caplog):
    """`spiral eval`, `exploitability`, `play`, `tournament` and `best-response` call no remote player and read no key
    that only the run's config names.

    One line says what was left out and how to name it; the bots of this program play.
    """
    assert {row["opponent"] for row in json.loads(spiral("eval", planted, "--games", 2, "--json"))} == {"random"}
    (warning,) = [record.getMessage() for record in caplog.records if "not played" in record.getMessage()]
    assert f"outside of the run: --opponent remote:model=m,url={server.url},key_env={KEY}" in warning
    spiral("exploitability", planted)
    spiral("tournament", planted, "random", "--games", 4, "--out", tmp_path / "cup")
    played = CliRunner().invoke(main, ["play", str(planted), "--seed", "1"], input="pass\nbet\npass\nbet\n")
    assert played.exit_code == 0 or "input ended" in played.output
    words = ["--steps", 1, "--games", 2, "--run-dir", tmp_path / "br", *TINY[1:4]]
    spiral("best-response", planted, *words)
    spiral("compare", planted, trained, "--metric", "play/illegal_rate", "--out", tmp_path / "cmp")
    assert server.requests == []


def test_what_the_user_names_is_used(planted, server):
    """What a command line names is used, with the key that it names."""
    words = ["--opponent", f"remote:model=m,url={server.url},key_env={KEY}", "--games", 1]
    spiral("eval", planted, *words)
    assert set(server.authorizations) == {"Bearer secret"}


def test_a_run_without_a_key_that_it_names_is_measured(planted, monkeypatch):
    """Nothing of a run's is asked for that is not used: the variable need not be there."""
    monkeypatch.delenv(KEY)
    spiral("eval", planted, "--games", 1)


def test_resuming_uses_all_that_the_runs_config_names(trained, tmp_path, server):
    """`spiral train --resume` is training with a config of your own: it uses all that the run's config names."""
    remote = f"remote:model=m,url={server.url},key_env={KEY}"
    members = {
        "pool__members": [{"policy": remote}],
        "opponents": {"name": "mixture", "args": {"weights": {"members": 1}}},
    }
    path = elsewhere(trained, tmp_path / "resumed", steps=2, **members)
    spiral("train", "--resume", "--run-dir", path)
    assert set(server.authorizations) == {"Bearer secret"}


def test_other_runs_and_models_of_a_config_are_not_opened(trained, saved_folder, tmp_path, caplog):
    """`spiral eval` opens no other run and no saved model that only the run's config names."""
    others = [f"run:{trained}@1", f"model:{saved_folder / 'base'}"]
    path = elsewhere(trained, tmp_path / "x", evaluate__opponents=[{"policy": text} for text in others])
    said = spiral("eval", path, "--games", 1, code=2)
    assert "there is no opponent" in said
    assert all(f"--opponent {text}" in caplog.text for text in others)
    rows = json.loads(spiral("eval", path, "--games", 1, "--json", "--opponent", trained))
    assert {row["opponent"] for row in rows} == {f"run:{trained}@1"}


@pytest.fixture
def moved(saved_folder, tmp_path):
    return elsewhere(saved_folder / "run", tmp_path / "moved", model__args={"path": str(tmp_path / "not there")})


def test_the_model_comes_from_the_checkpoint(moved, trained, saved_folder, tmp_path):
    """A run's model is read from its own checkpoint, never from the path in its config.

    So a run can be measured on a machine where its first model is not; its probabilities are the same there.
    """
    here, there = (json.loads(spiral("exploitability", path, "--json")) for path in (saved_folder / "run", moved))
    assert here == there
    spiral("tournament", moved, "random", "--games", 4, "--out", tmp_path / "cup")
    spiral("eval", trained, "--opponent", f"{moved}@1", "--games", 1)


def test_a_best_response_starts_from_no_folder_that_only_the_run_names(saved_folder, tmp_path):
    """A best response starts no logger of the run, plays against none of its opponents, and starts from no folder that
    only the run's config names."""
    words = ["best-response", saved_folder / "run", "--steps", 1, "--games", 2, *TINY[1:4]]
    said = spiral(*words, "--run-dir", tmp_path / "no", code=2)
    base = f"model.args.path={saved_folder / 'base'}"
    assert f"to use it, add {base}" in said
    spiral(*words, base, "--run-dir", tmp_path / "yes")


class Watched:
    """Plug-ins that note that they were made."""

    def __init__(self):
        self.made = []

    def note(self, name):
        return lambda *args, **kwargs: self.made.append(name)

    @hookimpl
    def register_opponents(self, register):
        register("watched_sampler", self.note("sampler"))

    @hookimpl
    def register_curricula(self, register):
        register("watched_curriculum", self.note("curriculum"))

    @hookimpl
    def register_rewards(self, register):
        register("watched_reward", self.note("reward"))

    @hookimpl
    def register_advantages(self, register):
        register("watched_advantage", self.note("advantage"))

    @hookimpl
    def register_loggers(self, register):
        register("watched_logger", self.note("logger"))

    @hookimpl
    def register_bots(self, register):
        register("watched_bot", self.note("bot"))


def test_measuring_makes_only_what_plays(trained, tmp_path, monkeypatch):
    """To measure or play a policy, only the games, model, engine and prompt format of its config are made, and the bots
    that `spiral eval` plays against."""
    watched, installed = Watched(), Plugins.installed
    path = elsewhere(
        trained, tmp_path / "x", opponents={"name": "watched_sampler"}, curriculum={"name": "watched_curriculum"},
        rewards=[{"name": "watched_reward"}], advantage={"name": "watched_advantage"},
        loggers=[{"name": "watched_logger"}], pool__members=[{"policy": "watched_bot"}],
    )  # fmt: skip

    def with_watched():
        plugins = installed()
        plugins.add(watched, "watched")
        return plugins

    monkeypatch.setattr(Plugins, "installed", with_watched)
    spiral("eval", path, "--games", 1)
    spiral("exploitability", path)
    spiral("tournament", path, "random", "--games", 2, "--out", tmp_path / "cup")
    assert watched.made == []


def test_nothing_of_the_environment_is_given_to_a_plug_in(trained, tmp_path, monkeypatch):
    """Of what a run's config reads from the environment, `${oc.env:KEY}`, nothing is given to a plug-in when its policy
    is measured or played."""
    monkeypatch.setenv(KEY, "1")
    path = elsewhere(trained, tmp_path / "x", games=[{"name": "kuhn_poker", "args": {"rounds": f"${{oc.env:{KEY}}}"}}])
    bound = Plugins.bound
    monkeypatch.setattr(Plugins, "bound", lambda self, kind, *rest: kind == "bot" and bound(self, kind, *rest))
    out = ["--run-dir", tmp_path / "br"]
    for words in (
        ["eval", path], ["exploitability", path], ["play", path], ["best-response", path, *out],
        ["tournament", path, "random", "--game", "kuhn_poker", "--out", tmp_path / "cup"],
    ):  # fmt: skip
        said = spiral(*words, code=2)
        assert f"reads ${{oc.env:{KEY}}} from the environment" in said
        assert "write the value into its config.yaml" in said


def test_a_comparison_makes_nothing(trained, tmp_path, monkeypatch):
    """`spiral compare` reads configs and metrics, and makes nothing that they name."""
    path = elsewhere(trained, tmp_path / "x", model={"name": "none"}, evaluate__opponents=[{"policy": "nobody"}])
    monkeypatch.setattr(Plugins, "make", lambda *args, **kwargs: pytest.fail(f"makes {args}"))
    spiral("compare", path, "--metric", "play/illegal_rate", "--out", tmp_path / "out")


def test_a_plug_in_gets_its_arguments_from_the_config(trained, tmp_path, monkeypatch):
    """A plug-in gets the arguments that a run's config gives it, so an engine or game that takes an address would use it."""
    from spiral_games.native.kuhn_poker import KuhnPoker

    told, installed = [], Plugins.installed

    class Calling:
        @hookimpl
        def register_games(self, register):
            register("calling", lambda url: told.append(url) or KuhnPoker())

    def with_calling():
        plugins = installed()
        plugins.add(Calling(), "acme")
        return plugins

    monkeypatch.setattr(Plugins, "installed", with_calling)
    path = elsewhere(trained, tmp_path / "x", games=[{"name": "calling", "args": {"url": "http://elsewhere"}}])
    spiral("exploitability", path)
    assert set(told) == {"http://elsewhere"}


def test_what_plays_takes_no_address():
    """No first-party game, engine or prompt format takes an address or a key."""
    installed = [r for r in Plugins.installed().registrations() if r.distribution.startswith("spiral-")]
    for kind in ("game", "engine", "prompt"):
        found = {p: r.name for r in installed if r.kind == kind for p in inspect.signature(r.factory).parameters}
        assert found
        assert not [p for p in found if re.search("url|host|address|key|secret|password|server|remote_code", p)], found


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_no_code(trained, tmp_path):
    """A checkpoint runs no code, not in a resumed run either: weights are safetensors, and of the optimiser's file only
    tensors are read."""
    import torch

    path = elsewhere(trained, tmp_path / "x", steps=2)
    torch.save(Planted(tmp_path / "ran"), path / "checkpoints" / "step-000001" / "optimizer.pt")
    said = spiral("train", "--resume", "--run-dir", path, code=2)
    assert "cannot be read" in said
    assert not (tmp_path / "ran").exists()


def test_a_plug_in_is_code(tmp_path):
    """A plug-in is code with all of your rights, from the first command after it was installed: `spiral plugins` runs it
    too.

    `SPIRAL_PLUGINS=a,b` loads the plug-ins of those distributions alone.
    """
    (tmp_path / "acme_evil.py").write_text("open('ran', 'w')\n", encoding="utf-8")
    info = tmp_path / "acme_evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-evil\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[spiral]\nevil = acme_evil\n", encoding="utf-8")
    for only, ran in (("spiral-games", False), ("", True)):
        env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        env["SPIRAL_PLUGINS"] = only
        command = [sys.executable, "-m", "spiral", "plugins"]
        subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=120)
        assert (tmp_path / "ran").exists() == ran
