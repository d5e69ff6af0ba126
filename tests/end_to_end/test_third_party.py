"""A stranger's distribution in a fresh environment: installed by pip, listed, checked, trained with; spiral unchanged.

Offline and without a second torch: the new environment sees this one's packages, spiral's own distributions excepted,
which it gets as wheels of its own.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ACME = ROOT / "examples" / "third_party_plugin"
FIRST_PARTY = [ROOT, *(ROOT / "plugins" / name for name in ("games", "opponents", "advantages", "models"))]
TRAIN = [
    *("games=nim", "advantage=mean_baseline", "steps=2", "rollout.episodes=16"),
    *("warm_start.max_steps=5", "warm_start.cache=false", "evaluate.every=0", "checkpoint.every=2"),
]


class Environment:
    """A virtual environment with wheels of spiral, its plug-ins and acme-nim."""

    def __init__(self, path):
        self.path = path
        self.python = path / "bin" / "python"
        self.core = None  # the copy of spiral/ that was installed

    def run(self, *command, code=0):
        """Run a command of this environment, away from the checkout; its standard output."""
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SPIRAL_PLUGINS")}
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=self.path, env=env, timeout=240)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def spiral(self, *words, code=0):
        return self.run(self.python, "-m", "spiral", *words, code=code)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    path = tmp_path_factory.mktemp("stranger")
    made = Environment(path / "venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.path)], check=True)
    purelib = made.run(made.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # A plain line adds a directory without reading the .pth files in it, so no editable install of spiral comes along.
    (Path(purelib) / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    sources = [_copied(folder, path / "sources" / str(i)) for i, folder in enumerate([*FIRST_PARTY, ACME])]
    pip = [sys.executable, "-m", "pip", "--python", made.python, "install", "-q", "--no-index", "--no-deps"]
    # --ignore-installed, lest pip try to uninstall what it sees through packages.pth.
    made.core = sources[0] / "spiral"
    made.run(*pip, "--no-build-isolation", "--ignore-installed", "--no-cache-dir", *sources)
    return made


def _copied(folder, target):
    """A copy of what a distribution is built from: a build must not depend on, or write to, the checkout."""
    target.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(folder / name, target)
    for package in folder.iterdir():
        if (package / "__init__.py").is_file():
            shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def test_it_is_listed(environment):
    listed = json.loads(environment.spiral("plugins", "--json"))
    assert listed["broken"] == []
    acme = {(row["kind"], row["name"]) for row in listed["plugins"] if row["distribution"] == "acme-nim"}
    assert acme == {("game", "nim"), ("bot", "nim_expert"), ("advantage", "mean_baseline")}
    assert {row["distribution"] for row in listed["plugins"]} >= {"spiral-selfplay", "spiral-games", "spiral-models"}


def test_it_keeps_its_promises(environment):
    out = environment.spiral("check", "nim", "nim_expert", "mean_baseline")
    assert out.count("acme-nim 0.1.0): ok") == 3


def test_its_own_tests_pass_there(environment):
    out = environment.run(environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", ACME / "tests")
    assert "passed" in out
    assert "skipped" not in out


def test_it_can_be_trained_with(environment, tmp_path):
    environment.spiral("train", *TRAIN, "--run-dir", tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "metrics.jsonl"} <= files
    recorded = "".join(path.read_text() for path in (tmp_path / "run").glob("*.*") if path.suffix in (".json", ".yaml"))
    assert "acme-nim" in recorded  # the version of every plug-in is kept with the run
    assert "mean_baseline" in recorded


def test_an_unknown_argument_is_one_sentence(environment, tmp_path):
    words = ["train", *TRAIN, "games.0.args.heap=3", "--run-dir", tmp_path / "run"]
    environment.spiral(*words, code=2)
    assert not (tmp_path / "run").exists()


def test_spiral_there_is_spiral_here(environment):
    """Nothing was changed for the stranger's sake: file by file, the installed core is what the checkout held."""
    installed = Path(environment.run(environment.python, "-c", "import spiral; print(spiral.__path__[0])").strip())
    assert installed.is_relative_to(environment.path)
    files = {p.relative_to(installed) for p in installed.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    source = environment.core
    expected = {p.relative_to(source) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert files == expected
    assert [str(f) for f in files if not filecmp.cmp(installed / f, source / f, shallow=False)] == []


def test_the_core_does_not_know_the_stranger():
    for path in (ROOT / "spiral").rglob("*"):
        if path.suffix in (".py", ".yaml"):
            assert "acme" not in path.read_text().lower(), path
