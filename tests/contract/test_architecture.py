"""The architecture as rules: imports run one way, files stay small, and the core names no plug-in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spiral.plugins.registry import Plugins

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "spiral"
FIRST_PARTY = ("spiral_games", "spiral_opponents", "spiral_advantages", "spiral_models", "spiral_tasks")
MAX_LINES, MAX_FUNCTION_LINES = 350, 60

ROOMS = {"cluster", 
    "api", "config", "plugins", "theory", "runs", "models", "engines", "policies", "selfplay", "learning",
    "evaluation", "reports", "training", "arena", "testing", "commands",
}  # fmt: skip


def _sources(*folders):
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "tests" not in path.relative_to(ROOT).parts and "build" not in path.parts]


def _trees(*folders):
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in _sources(*folders)]


def _imported(tree):
    """The full names of all modules that a file imports, lazily too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


# Imports


def test_imports_run_one_way(monkeypatch):
    """The contracts of pyproject.toml, nothing exempt: layers, no circles, light contracts, independent plug-ins."""
    cli = pytest.importorskip("importlinter.cli")  # a tool of development, which `make test-minimum` does without
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli.logging_config, "dictConfig", lambda config: None)  # it would silence all other loggers
    assert cli.lint_imports(no_cache=True) == 0
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_top_of_the_package_holds_rooms():
    """No file is left over beside the entry points, the seeds, and what a program of the arena's players imports."""
    files = {path.name for path in CORE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "arena_client.py", "builtin.py", "seeds.py", "py.typed"}
    assert {path.name for path in CORE.iterdir() if path.is_dir() and path.name != "__pycache__"} == ROOMS


@pytest.mark.parametrize(("library", "file"), [("omegaconf", "config/loading.py"), ("openskill", "theory/ratings.py")])
def test_one_library_one_file(library, file):
    """What may have to be replaced one day is imported in one place."""
    importers = [
        str(path.relative_to(CORE))
        for path, tree in _trees("spiral")
        if any(name.split(".")[0] == library for name in _imported(tree))
    ]
    assert importers == [file]


def test_no_import_is_relative():
    """Every import says where it points."""
    for path, tree in _trees("spiral", "plugins"):
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level], path


@pytest.mark.parametrize(
    "words",
    [
        "import spiral",
        "import spiral.theory, spiral.testing",
        "import spiral.commands.main",
        "import spiral.config.loading",
    ],
)
def test_importing_the_core_is_light(words):
    """Neither torch nor transformers or accelerate comes with it: measured, since a static graph sees no lazy import."""
    _light(words)


@pytest.mark.parametrize("argument", ["--help", "train --help", "--version"])
def test_help_is_light(argument):
    """`spiral --help` answers without loading a model library."""
    _light(
        "import sys\n"
        f"sys.argv = ['spiral', *{argument.split()!r}]\n"
        "from spiral.commands.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )


def test_listing_plugins_is_light():
    """What is installed can be listed and checked without loading a model library."""
    _light(
        "from spiral.plugins.registry import Plugins\n"
        "assert Plugins.installed().problem('model', 'byte-0.1m', {}) is None"
    )


def test_a_config_is_checked_light():
    """A config with a fault is told of it without loading a model library."""
    _light(
        "import sys\n"
        "sys.argv = ['spiral', 'train', 'games=no_such_game']\n"
        "from spiral.commands.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code == 2, end.code"
    )


def _light(words):
    code = f"{words}\nimport sys\nheavy = {{'torch', 'transformers', 'accelerate', 'safetensors'}} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-1500:]


# What the core must not know


def _literals(tree):
    """Every string of a file that is no docstring, no exported name and no part of an f-string's text."""
    docstrings = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    exported = {
        id(item)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
        for item in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | exported:
            yield node.lineno, node.value


def test_the_core_names_no_first_party_plugin():
    """No string that is one of their names: four data files alone may, `defaults.yaml` (the demo), `best_response.yaml`
    (what a best response trains with), `suites.yaml` (benchmarks under one name) and `judge.yaml` (what asks a judge's
    server)."""
    registered = Plugins.installed().registrations()
    own = ("spiral-games", "spiral-opponents", "spiral-advantages", "spiral-models", "spiral-tasks")
    names = {r.name for r in registered if r.distribution in own}
    assert {"kuhn_poker", "rae", "mirror", "byte-0.1m", "random"} <= names
    found = [
        f"{path.relative_to(ROOT)}:{line}: {value!r}"
        for path, tree in _trees("spiral")
        for line, value in _literals(tree)
        if value in names
    ]
    assert found == []


# Files


def _calls(tree, *methods):
    """Calls of methods with one of these names, and of `open`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in methods:
            yield node


def _mode(call):
    """Of a call of `open`: path.open(mode), or open(path, mode)."""
    place = 0 if isinstance(call.func, ast.Attribute) else 1
    given = [*call.args[place : place + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    return given[0].value if given and isinstance(given[0], ast.Constant) else "r"


def test_files_are_written_in_one_place():
    """What runs/files.py writes is whole, or one sentence about the disk. Tensors are written inside it, by the
    functions that these files give to it; another file that writes has to be looked at."""
    writers = {"write_text", "write_bytes", "save_file", "save_pretrained", "SummaryWriter"}
    found = {
        str(path.relative_to(CORE))
        for path, tree in _trees("spiral")
        for call in _calls(tree, "open", *writers)
        if getattr(call.func, "attr", "") != "open" or set(str(_mode(call))) & set("wax+")
    }
    with_tensors = {
        "runs/checkpoints.py",
        "runs/snapshots.py",
        "models/adapted.py",
        "learning/warm_start_cache.py",
        "models/gguf/folder.py",
        "training/export.py",
    }
    temporary = {"engines/vllm/adapters.py", "engines/vllm/form.py"}  # vLLM reads a model and adapters from folders
    assert found == {"runs/files.py"} | with_tensors | temporary


# Size and names


@pytest.mark.parametrize("path", _sources("spiral", "plugins"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path):
    """At most 350 lines, functions of at most 60, and a docstring that says what it defines."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(tree), "no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_no_file_is_a_drawer():
    """No utils, helpers, base or common, and no Manager."""
    for path, tree in _trees("spiral", "plugins"):
        assert path.stem not in {"utils", "util", "helpers", "helper", "base", "common", "misc"}, path
        classes = [n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
        assert not [name for name in classes if name.endswith("Manager")], path


OLD_NAMES = (
    "Voice", "Guests", "Hall", "Thinkers", "Vigil", "Widened", "Ledger", "Inspected", "Referee", "Watchdog", "Broken",
)  # fmt: skip
"""Classes of the first version, each of which has the field's word now."""

METAPHORS = r"\b(chairs?|guests?|vigil|hall|ledger|tables? for|at the table|sit down|sits|voices?|stranger)\b"
PRONOUNS = r"\b(nobody|somebody|whoever|everybody|anybody|no one|someone|everyone|anyone)\b"


def _prose(path, tree):
    """(line, text) of docstrings, error texts and other strings, and comments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]


def test_the_old_words_are_gone():
    """Names and prose of the core use the field's words."""
    for path, tree in _trees("spiral"):
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
            n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)
        }
        assert not names & set(OLD_NAMES), path
        found = [(line, m[0]) for line, text in _prose(path, tree) for m in re.finditer(METAPHORS, text, re.I)]
        if path.is_relative_to(CORE / "arena"):  # where a guest is a person without a name
            found = [(line, word) for line, word in found if not word.lower().startswith("guest")]
        assert found == [], path


def test_prose_has_nouns():
    """Fewer than ten pronouns without a noun in the docstrings, comments and error texts of the whole library."""
    found = [
        (str(path.relative_to(ROOT)), line, m[0])
        for path, tree in _trees("spiral", "plugins")
        for line, text in _prose(path, tree)
        for m in re.finditer(PRONOUNS, text, re.I)
    ]
    assert len(found) < 10, found


@pytest.mark.parametrize(
    "file",
    [
        "selfplay/play.py", "cluster/fleet.py", "training/recovery.py", "learning/full_learner.py", "learning/packing.py",
        "engines/torch/engine.py",
    ],
)  # fmt: skip
def test_subtle_code_gives_its_reasons(file):
    """The files whose order of effects or arithmetic is the point have comments beside the lines that need them."""
    text = (CORE / file).read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*# \w|  # \w", text, re.M)) >= 4, file


# The door


def test_the_hooks_fit_on_a_screen_and_register_every_kind():
    """Each hook of the table of kinds is specified, each register hook is in the table."""
    from spiral.api import hooks
    from spiral.plugins.kinds import KINDS

    specified = {name for name in vars(hooks) if name.startswith("register_")}
    assert specified == {kind.hook for kind in KINDS}
    assert len((CORE / "api" / "hooks.py").read_text().splitlines()) <= 120


def test_every_kind_is_checked_or_needs_a_model():
    """A kind without a conformance check is one whose plug-ins are given a model or a run."""
    from spiral.plugins.kinds import KINDS
    from spiral.testing import CHECKED_KINDS

    assert set(CHECKED_KINDS) <= {kind.name for kind in KINDS}
    assert {kind.name for kind in KINDS} - set(CHECKED_KINDS) == {"engine", "learner", "logger"}


def test_every_plugin_of_the_config_has_a_kind():
    """Each field of the configuration that names plug-ins stands in the row of one kind."""
    import typing
    from dataclasses import is_dataclass

    from spiral.config.schema import Config, PluginConfig
    from spiral.plugins.kinds import KINDS

    def fields(schema, prefix=""):
        for name, hint in typing.get_type_hints(schema).items():
            types = [t for t in (hint, *typing.get_args(hint)) if is_dataclass(t)]
            if any(issubclass(t, PluginConfig) for t in types):
                yield f"{prefix}{name}"
            elif is_dataclass(hint):
                yield from fields(hint, f"{prefix}{name}.")

    assert sorted(fields(Config)) == sorted(key for kind in KINDS for key in kind.config_keys)
