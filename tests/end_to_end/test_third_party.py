"""Wheels of spiral, of its five plug-ins and of a stranger's distribution in a fresh environment: installed by pip,
listed, checked, trained with; spiral unchanged for the stranger's sake.

Every test runs in two environments. `offline`, the default, sees this environment's packages, spiral's own
distributions excepted, and so needs neither a network nor a second torch. `empty`, which is slow, sees nothing:
pip brings every dependency from the package index, as it would to a stranger.
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
PLUGINS = {
    f"spiral-{name}": ROOT / "plugins" / name for name in ("games", "opponents", "advantages", "models", "tasks")
}
FOLDERS = {"spiral-selfplay": ROOT, **PLUGINS, "acme-nim": ACME}
PACKAGES = ["spiral", *(name.replace("-", "_") for name in PLUGINS)]
TRAIN = [
    *("games=nim", "advantage=mean_baseline", "steps=2", "rollout.episodes=16"),
    *("warm_start.max_steps=5", "warm_start.cache=false", "evaluate.every=0", "checkpoint.every=2"),
]
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]

# Of the fixtures, which make and fill an environment: minutes, with a torch to unpack.
pytestmark = pytest.mark.timeout(1800)


class Offline:
    """A virtual environment that sees this one's packages, spiral's own distributions excepted."""

    def __init__(self, path, wheels):
        self.path, self.wheels = path, wheels
        self.python = path / "bin" / "python"
        self.make()

    def make(self):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.path)], check=True)
        # Links to all but spiral's own, whose entry points would be found through their dist-info folders.
        seen = self.path / "seen"
        seen.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not entry.name.lstrip("_").startswith(("spiral", "acme")) and entry.suffix != ".pth":
                (seen / entry.name).symlink_to(entry)
        (self.packages / "seen.pth").write_text(f"{seen}\n")

    def install_bare(self):
        """spiral-selfplay by itself."""
        self.pip(self.wheels["spiral-selfplay"])

    def install_all(self):
        """The first-party distributions, and the stranger's."""
        self.pip(*[self.wheels[name] for name in [*PLUGINS, "acme-nim"]])

    def install_folder(self, folder):
        """A distribution that `spiral new` wrote, through a wheel."""
        self.pip("--no-build-isolation", "--no-cache-dir", folder)

    def pip(self, *words):
        self.run(sys.executable, *PIP, "--python", self.python, "install", "--no-index", "--no-deps", *words)

    @property
    def packages(self):
        words = "import sysconfig; print(sysconfig.get_path('purelib'))"
        return Path(self.run(self.python, "-c", words).strip())

    def run(self, *command, code=0):
        """Run a command of this environment, away from the checkout; its standard output."""
        done = self.ended(*command)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def ended(self, *command):
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SPIRAL_PLUGINS")}
        words = [*map(str, command)]
        return subprocess.run(words, capture_output=True, text=True, cwd=self.path, env=env, timeout=1200)

    def tested(self, folder, elsewhere):
        """What pytest says of a distribution's tests: elsewhere, so that they find what is installed and no settings."""
        tests = shutil.copytree(folder / "tests", elsewhere / "tests")
        out = self.run(self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)
        assert "passed" in out
        return out

    def spiral(self, *words, code=0):
        return self.run(self.python, "-m", "spiral", *words, code=code)


class Empty(Offline):
    """A virtual environment that sees nothing but what pip brings, as constraints.txt pins it."""

    def make(self):
        subprocess.run([sys.executable, "-m", "venv", str(self.path)], check=True)
        self.pip("torch")  # first and by itself, as in the Makefile

    def install_bare(self):
        self.pip("spiral-selfplay")

    def install_all(self):
        self.pip("spiral-selfplay[all]", "acme-nim[dev]")

    def install_folder(self, folder):
        self.pip(folder)

    def pip(self, *words):
        ours = self.wheels["spiral-selfplay"].parent  # a later test compares what came with what was built
        pins = ["--constraint", ROOT / "constraints.txt", "--find-links", ours]
        self.run(self.python, *PIP, "install", *pins, *words)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Name -> a copy of what each distribution is built from: a build must neither depend on nor write to the checkout."""
    path = tmp_path_factory.mktemp("sources")
    return {name: _copied(folder, path / name) for name, folder in FOLDERS.items()}


def _copied(folder, target):
    target.mkdir(parents=True)
    shutil.copy(ROOT / ".gitignore", target)  # hatchling leaves out of a wheel what git ignores
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (folder / name).is_file():
            shutil.copy(folder / name, target)
    for package in folder.iterdir():
        if (package / "__init__.py").is_file():
            shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture(scope="module")
def wheels(sources, tmp_path_factory):
    """Name -> the wheel of each distribution."""
    path = tmp_path_factory.mktemp("wheels")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", path]
    command = [sys.executable, *PIP, "wheel", *options, *sources.values()]
    subprocess.run([*map(str, command)], check=True, timeout=240)
    return {name: next(path.glob(f"{name.replace('-', '_')}-*.whl")) for name in FOLDERS}


@pytest.fixture(scope="module", params=[Offline, pytest.param(Empty, marks=pytest.mark.slow)], ids=["offline", "empty"])
def environment(request, wheels, tmp_path_factory):
    made = request.param(tmp_path_factory.mktemp("stranger") / "venv", wheels)
    made.install_bare()
    made.bare = {
        words: made.ended(made.python, "-m", "spiral", *words.split()) for words in ("plugins --json", "train")
    }
    made.install_all()
    return made


# spiral-selfplay by itself


def test_without_plugins_the_core_lists_its_own(environment):
    done = environment.bare["plugins --json"]
    assert done.returncode == 0, done.stderr
    assert {row["distribution"] for row in json.loads(done.stdout)["plugins"]} == {"spiral-selfplay"}


def test_without_plugins_train_is_one_sentence_that_names_what_to_install(environment):
    done = environment.bare["train"]
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines() == [
        "spiral: no game named 'kuhn_poker' (installed: tasks); "
        'pip install "spiral-selfplay[all]" brings the first-party ones'
    ]
    assert not (environment.path / "runs").exists()


# All of them


def test_it_is_listed(environment):
    listed = json.loads(environment.spiral("plugins", "--json"))
    assert listed["failed"] == []
    acme = {(row["kind"], row["name"]) for row in listed["plugins"] if row["distribution"] == "acme-nim"}
    assert acme == {("game", "nim"), ("bot", "nim_expert"), ("advantage", "mean_baseline")}
    assert {row["distribution"] for row in listed["plugins"]} >= FOLDERS.keys()


def test_the_console_script_is_there(environment):
    version = environment.run(environment.path / "bin" / "spiral", "--version")
    assert version.split()[-1] == environment.wheels["spiral-selfplay"].name.split("-")[1]


def test_it_keeps_its_promises(environment):
    out = environment.spiral("check", "nim", "nim_expert", "mean_baseline")
    assert out.count("acme-nim 0.1.0): ok") == 3


def test_its_own_tests_pass_there(environment, tmp_path):
    assert "skipped" not in environment.tested(ACME, tmp_path)


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


@pytest.mark.parametrize("game", ["textarena/Nim-v0", "openspiel/kuhn_poker"])
def test_the_games_of_the_extras_are_there(environment, game):
    assert ": ok" in environment.spiral("check", game)


def test_a_distribution_that_spiral_writes_installs_and_passes_its_own_tests(environment, tmp_path):
    environment.spiral("new", "game", "my_first", "--dir", tmp_path)
    (folder,) = tmp_path.iterdir()
    environment.install_folder(folder)
    assert "my_first" in environment.spiral("plugins", "--json")
    environment.tested(folder, tmp_path / "elsewhere")


# What was installed


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_every_file_of_its_package(environment, sources, package):
    """Code, and what lies beside it: YAML, templates, scripts, pages, tables, py.typed. Nothing was changed for the
    stranger's sake: file by file, what is installed is what the checkout held."""
    words = f"import {package}; print({package}.__path__[0])"
    installed = Path(environment.run(environment.python, "-c", words).strip())
    assert installed.is_relative_to(environment.path)
    source = next(folder / package for folder in sources.values() if (folder / package).is_dir())
    files = _files(source)
    assert Path("py.typed") in files
    assert _files(installed) == files
    assert [str(f) for f in files if not filecmp.cmp(installed / f, source / f, shallow=False)] == []


def _files(folder):
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_every_wheel_of_ours_holds_the_licence(environment):
    licence = (ROOT / "LICENSE").read_bytes()
    found = [p.read_bytes() for p in environment.packages.glob("spiral_*.dist-info/licenses/LICENSE")]
    assert found.count(licence) == len(PACKAGES)


def test_an_environment_sees_of_this_one_what_it_says(environment):
    """The empty one nothing; the offline one packages such as torch, but none of spiral's distributions."""
    words = "import torch, sys; print(torch.__file__, *filter(None, sys.path), sep='\\n')"
    torch, *path = [Path(line) for line in environment.run(environment.python, "-c", words).splitlines()]
    assert torch.resolve().is_relative_to(environment.path) is isinstance(environment, Empty)
    assert Path(sysconfig.get_path("purelib")) not in path


def test_the_core_does_not_know_the_stranger():
    for path in (ROOT / "spiral").rglob("*"):
        if path.suffix in (".py", ".yaml"):
            assert "acme" not in path.read_text().lower(), path
