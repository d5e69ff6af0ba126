"""`spiral new`: what it writes passes its own tests at once, and every refusal is a sentence."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from spiral import SpiralError
from spiral.commands.scaffold import KINDS, SHARED, TEMPLATES, create
from spiral.plugins.kinds import BY_NAME
from spiral.testing import CHECKED_KINDS


def run(*command, cwd=None, **env):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env={**os.environ, **env}, cwd=cwd, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_its_own_tests(kind, tmp_path):
    path = create(kind, "my_first", tmp_path)
    assert path == tmp_path / f"spiral-{kind}-my-first"
    # In a process of its own: the generated package is not installed here, and its name is free to be anything.
    out = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path, PYTHONPATH=str(path))
    assert "passed" in out
    assert "failed" not in out


@pytest.mark.parametrize("kind", KINDS)
def test_the_distribution_is_complete(kind, tmp_path):
    path = create(kind, "my_first", tmp_path)
    project = tomllib.loads((path / "pyproject.toml").read_text())
    module = project["project"]["entry-points"]["spiral"]["my_first"]
    assert (path / module / "__init__.py").is_file()
    assert (path / module / "py.typed").is_file()
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [module]
    assert f"spiral-selfplay~={version('spiral-selfplay')}" in project["project"]["dependencies"]
    assert "my_first" in (path / "README.md").read_text()
    for file in path.rglob("*"):
        assert not file.is_file() or "${" not in file.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_keeps_the_house_rules(kind, tmp_path):
    path = create(kind, "my_first", tmp_path)
    tools = Path(sys.executable).parent
    ruff = ["--isolated", "--line-length", "110", "."]
    run(tools / "ruff", "check", "--select", "E,F,I,B,UP,SIM", *ruff, cwd=path)
    run(tools / "ruff", "format", "--check", *ruff, cwd=path)
    for file in path.rglob("*.py"):
        assert ast.get_docstring(ast.parse(file.read_text()))


def test_every_kind_has_templates_and_nothing_else_does():
    """All kinds of plug-in have some, under their own names."""
    assert sorted(p.name for p in TEMPLATES.iterdir() if p.name != "__pycache__") == sorted([*KINDS, SHARED])
    assert [*BY_NAME] == [*KINDS]


@pytest.mark.parametrize(("kind", "name"), [("game", "kuhn_poker"), ("bot", "random"), ("advantage", "rae")])
def test_a_name_that_is_taken_is_refused(kind, name, tmp_path):
    """The distribution could never be used beside the one that has the name; of another kind it may have it."""
    with pytest.raises(SpiralError, match=rf"^{kind} '{name}' is taken by spiral-\w+ [\d.]+; choose another name$"):
        create(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert create("logger", name, tmp_path).is_dir()


@pytest.mark.parametrize("name", ["", "9lives", "with-dash", "class", "a b", "_x", "x_", "é", "../up"])
def test_a_bad_name_is_refused(name, tmp_path):
    with pytest.raises(SpiralError, match="cannot name a plug-in; give letters"):
        create("game", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused_and_an_empty_one_is_not(tmp_path):
    (tmp_path / "spiral-game-full").mkdir()
    (tmp_path / "spiral-game-full" / "thesis.txt").write_text("mine")
    with pytest.raises(SpiralError, match="not an empty folder"):
        create("game", "full", tmp_path)
    assert [p.name for p in (tmp_path / "spiral-game-full").iterdir()] == ["thesis.txt"]
    (tmp_path / "spiral-game-empty").mkdir()
    assert (create("game", "empty", tmp_path) / "pyproject.toml").is_file()


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(
        SpiralError,
        match="no template for 'dance'; give one of game, bot, opponents, curriculum, reward, advantage, model, ",
    ):
        create("dance", "x", tmp_path)


def test_long_names_and_capitals_still_give_valid_python(tmp_path):
    path = create("game", "Battle_of_The_Sexes2", tmp_path)
    assert path.name == "spiral-game-battle-of-the-sexes2"
    tree = ast.parse((path / "spiral_game_battle_of_the_sexes2" / "__init__.py").read_text())
    assert any(isinstance(node, ast.ClassDef) and node.name == "BattleOfTheSexes2Game" for node in tree.body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_install_is_found_and_passes_the_check(kind, tmp_path):
    """Offline: the build backend and everything heavy come from this interpreter's environment."""
    path = create(kind, "my_first", tmp_path)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    run(*pip, "--target", site, path)
    spiral = [sys.executable, "-m", "spiral"]
    assert "my_first" in run(*spiral, "plugins", "--json", PYTHONPATH=str(site))
    if kind in CHECKED_KINDS:
        assert "ok" in run(*spiral, "check", "my_first", PYTHONPATH=str(site))
