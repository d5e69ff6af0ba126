"""The shape of the house, as data: who may import whom, how long a file may grow, and what the core must not know."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spiral.plugins.registry import Plugins

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "spiral"
FIRST_PARTY = ("spiral_games", "spiral_opponents", "spiral_advantages", "spiral_models")
MAX_LINES, MAX_FUNCTION_LINES = 330, 60

IMPORTS = {
    # Left of everything: words, errors, seeds.
    "errors": "",
    "types": "",
    "annotations": "",
    "seeds": "",
    "intervals": "",
    "schema": "",
    # Config -> plug-ins.
    "config": "errors schema",
    "interfaces": "errors types pool",
    "hookspecs": "types schema",
    "plugins": "hookspecs annotations errors",
    "": "errors hookspecs interfaces types",
    # Games and the pool -> rollouts.
    "prompts": "errors interfaces",
    "ledger": "types",
    "pool": "interfaces ledger plugins prompts types",
    "widen": "interfaces pool types",
    "thinking": "interfaces",
    "curricula": "",
    "game_tree": "errors interfaces",
    "theory": "errors game_tree",
    "watchdog": "",
    "hall": "interfaces thinking types watchdog",
    "rollouts": "errors hall interfaces pool prompts schema seeds thinking types watchdog",
    # Batch -> learner.
    "lm": "errors",
    "batch": "types",
    "loss": "batch",
    "scoring": "batch errors game_tree lm prompts",
    "engines": "",
    "engines.kv_cache": "",
    "engines.slots": "types",
    "engines.torch": "engines.kv_cache engines.slots errors lm types",
    "learner": "batch errors lm loss schema",
    # What a run adds.
    "evaluate": "curricula errors game_tree interfaces intervals ledger lm pool prompts rollouts schema scoring theory types",
    "monte_carlo": "errors game_tree interfaces intervals prompts seeds theory types",
    "warm_start": "batch errors interfaces lm prompts schema seeds types watchdog",
    "run_dir": "config errors schema types",
    "checkpoint": "errors interfaces learner",
    "snapshots": "errors",
    "guests": "checkpoint config errors lm plugins pool prompts run_dir schema types",
    "assemble": "errors guests interfaces plugins pool prompts schema seeds types widen",
    "first_weights": "assemble plugins schema warm_start",
    "metrics": "types",
    "health.signs": "types",
    "health.traces": "intervals",
    "health.rules": "health.traces",
    "health.detector": "health.rules health.traces",
    "health": "health.detector health.signs",
    "vigil": "health schema",
    "loggers": "hookspecs",
    "builtin": "curricula engines.torch hookspecs loggers prompts",
    "report.values": "",
    "report.records": "report.values",
    "report": "errors report.records",
    "report.tournament": "report",
}
"""Module of the core -> those of the core that it imports at most, in the order of the flow of data. A module may
import only from above itself; imports for type checkers only are exempt from the order, not from the table."""


def _sources(*folders):
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts and "tests" not in path.parts
    ]


def _module(path):
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


CORE_FILES = {_module(path): path for path in _sources("spiral")}
TRAINER = (
    "train",
    "inspect_run",
    "exploit",
    "play",
    "terminal",
    "scaffold",
    "tournament",
    "launch",
    "exploitability_command",
    "cli",
    "__main__",
    "testing",
)
"""The right end of the flow: these put the parts together and may import anything of the table and of each other's
left; nothing of the table imports them."""


def _is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _spiral_names(node):
    """Modules of the core that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        parts = name.split(".")
        if parts[0] != "spiral":
            continue
        rest = ".".join(parts[1:])
        while rest and rest not in CORE_FILES:
            rest = rest.rpartition(".")[0]
        yield rest


def _imported(path):
    """(module, whether for type checkers only) of every import in a file, those inside functions included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {id(inner) for node in ast.walk(tree) if _is_type_checking(node) for inner in ast.walk(node)}
    return {(name, id(node) in typed) for node in ast.walk(tree) for name in _spiral_names(node)}


def _is_trainer(module):
    return module.split(".")[0] in TRAINER


# Who imports whom


def test_no_file_imports_relatively():
    """One way to name a module, which is also the one that the table reads."""
    for path in _sources("spiral", "plugins"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_the_table_holds_every_module():
    """A new module says where in the flow it stands; a module that went leaves the table."""
    assert set(IMPORTS) == {module for module in CORE_FILES if not _is_trainer(module)}


@pytest.mark.parametrize("module", [m for m in IMPORTS if m in CORE_FILES])
def test_a_module_imports_what_the_table_says(module):
    """No more than its row, and no row wider than needed: the table is the truth about the house."""
    found = {name for name, _ in _imported(CORE_FILES[module])}
    assert found == set(IMPORTS[module].split()), f"spiral.{module} imports {sorted(found)}"


@pytest.mark.parametrize("module", [m for m in IMPORTS if m in CORE_FILES])
def test_a_module_imports_only_from_its_left(module):
    """Data flows one way: everything a file imports at run time stands before it in the table."""
    order = list(IMPORTS)
    runtime = {name for name, typed in _imported(CORE_FILES[module]) if not typed}
    late = {name for name in runtime if name and order.index(name) >= order.index(module)}
    assert not late, f"spiral.{module} imports {sorted(late)} from its right"


def test_only_one_file_touches_omegaconf():
    """config.py knows how a config is written; nobody else."""
    importers = [
        path.name
        for path in _sources("spiral", "plugins")
        if re.search(r"^\s*(from|import) omegaconf", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importers == ["config.py"]


def test_plugins_use_the_public_door():
    """First-party plug-ins import of the core what a stranger may: no trainer, learner, batch, engine or run."""
    door = {"", "errors", "hookspecs", "interfaces", "types", "pool", "theory", "testing", "prompts"}
    for path in _sources("plugins"):
        for module, _ in _imported(path):
            assert module.split(".")[0] in door, f"{path.relative_to(ROOT)} imports spiral.{module}"


def test_plugins_do_not_lean_on_each_other():
    """Each distribution works without the three others."""
    for path in _sources("plugins"):
        own = next(part for part in path.parts if part in FIRST_PARTY)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in set(FIRST_PARTY) - {own}, path


# What the core must not know


def _literals(path):
    """Every string of a file that is no docstring and no part of an f-string's text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    exported = {  # names of functions, whatever plug-ins are called
        id(item)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
        for item in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | exported:
            yield node.lineno, node.value


def test_the_core_names_no_first_party_plugin():
    """No import of theirs, and no string that is one of their names: two data files alone may, `defaults.yaml`
    (the demo) and `exploit.yaml` (what an exploiter trains with)."""
    registered = Plugins.installed().registrations()
    names = {
        r.name
        for r in registered
        if r.distribution.removeprefix("spiral-") in ("games", "opponents", "advantages", "models")
    }
    assert {"kuhn_poker", "rae", "mirror", "byte-0.1m", "random"} <= names
    found = []
    for path in _sources("spiral"):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        found += [
            f"{where}: {package}" for package in FIRST_PARTY if re.search(rf"^\s*(from|import) {package}", text, re.M)
        ]
        found += [f"{where}:{line}: {value!r}" for line, value in _literals(path) if value in names]
    assert found == []


@pytest.mark.parametrize(
    "words", ["import spiral", "import spiral.commands.main", "import spiral.plugins.registry, spiral.config.loading"]
)
def test_importing_the_core_is_light(words):
    """Neither torch nor transformers, numpy or accelerate comes with it."""
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
    """What is installed can be listed and checked for faults without loading a model library."""
    _light(
        "from spiral.plugins.registry import Plugins\nassert Plugins.installed().fault('model', 'byte-0.1m', {}) is None"
    )


def _light(words):
    code = f"{words}\nimport sys\nheavy = {{'torch', 'transformers', 'accelerate', 'safetensors'}} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-1500:]


# Style


@pytest.mark.parametrize("path", _sources("spiral", "plugins"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path):
    """At most 330 lines, functions of at most 60, and a docstring that says what it is for."""
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
    for path in _sources("spiral", "plugins"):
        assert path.stem not in {"utils", "util", "helpers", "helper", "base", "common", "misc"}, path
        classes = [n.name for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ClassDef)]
        assert not [name for name in classes if name.endswith("Manager")], path


def test_hookspecs_fits_on_a_screen_and_registers_every_kind():
    """Each hook of the loader's table is specified, each register hook is in the table."""
    from spiral.api import hooks as hookspecs
    from spiral.plugins.registry import HOOKS

    specified = {name for name in vars(hookspecs) if name.startswith("register_")}
    assert specified == set(HOOKS.values())
    assert len((CORE / "hookspecs.py").read_text().splitlines()) <= 100
