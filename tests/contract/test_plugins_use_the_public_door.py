"""What the plug-in distributions import: of the core only `spiral`, `spiral.theory` and `spiral.testing`, of each other
nothing. The rule holds for the first-party distributions, the third-party example and what `spiral new` writes."""

import ast
import importlib
from pathlib import Path

import pytest

from spiral.commands.scaffold import KINDS, create

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ("spiral", "spiral.theory", "spiral.testing")
"""The modules of the core that a plug-in may import; each states its names in `__all__`."""
DISTRIBUTIONS = {
    "spiral_games": ROOT / "plugins" / "games",
    "spiral_opponents": ROOT / "plugins" / "opponents",
    "spiral_advantages": ROOT / "plugins" / "advantages",
    "spiral_models": ROOT / "plugins" / "models",
    "spiral_tasks": ROOT / "plugins" / "tasks",
    "acme_nim": ROOT / "examples" / "third_party_plugin",
}
"""Package -> the root of its distribution."""


def _sources(root):
    """The files of a distribution that are no tests."""
    files = [p for p in sorted(root.rglob("*.py")) if not {"tests", "__pycache__"} & set(p.relative_to(root).parts)]
    assert files, root
    return files


def _imports(path):
    """(line, module, name or None) of each absolute import, those in functions and for type checkers included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)


def _attributes(path):
    """(line, name) of each attribute that is read of a plain `import spiral`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "spiral":
            yield node.lineno, node.attr


def _private(module, name):
    """Whether an import reaches behind the public modules of the core, or for a name that they do not promise."""
    if module.split(".")[0] != "spiral":
        return False
    if name is not None and f"{module}.{name}" in PUBLIC:  # from spiral import theory
        return False
    return module not in PUBLIC or (name is not None and name not in importlib.import_module(module).__all__)


def _violations(root):
    promised = {*importlib.import_module("spiral").__all__, "theory", "testing"}
    return [
        f"{path.relative_to(root)}:{line}: {module}{f' {name}' if name else ''}"
        for path in _sources(root)
        for line, module, name in _imports(path)
        if _private(module, name)
    ] + [
        f"{path.relative_to(root)}:{line}: spiral.{name}"
        for path in _sources(root)
        for line, name in _attributes(path)
        if name not in promised
    ]


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_distribution_imports_public_names_only(package):
    """What is not in `__all__` of a public module may change with any release of the core."""
    assert _violations(DISTRIBUTIONS[package]) == []


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_distribution_imports_no_other(package):
    """Each works without the others, in its own code; tests may play one against another."""
    others = set(DISTRIBUTIONS) - {package}
    violations = [
        f"{path.name}:{line}: {module}"
        for path in _sources(DISTRIBUTIONS[package])
        for line, module, _ in _imports(path)
        if module.split(".")[0] in others
    ]
    assert violations == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_imports_public_names_only(kind, tmp_path):
    """The templates are what most authors copy."""
    assert _violations(create(kind, "sample", tmp_path)) == []


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_has_every_name_that_it_promises(module):
    loaded = importlib.import_module(module)
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []
    assert len(set(loaded.__all__)) == len(loaded.__all__)


@pytest.mark.parametrize(
    ("source", "violations"),
    [
        ("from spiral import Game, theory\nfrom spiral.theory import nash_conv\nimport spiral.testing", []),
        ("import spiral.policies.pool", ["plugin.py:1: spiral.policies.pool"]),
        ("from spiral.api.errors import SpiralError", ["plugin.py:1: spiral.api.errors SpiralError"]),
        ("from spiral import api", ["plugin.py:1: spiral api"]),
        ("from spiral.theory import game_tree", ["plugin.py:1: spiral.theory game_tree"]),
        ("import spiral\n\nspiral.SpiralError, spiral.seeds", ["plugin.py:3: spiral.seeds"]),
        ("def late():\n    from spiral.config import loading", ["plugin.py:2: spiral.config loading"]),
        ("import spiral_games.native", []),
    ],
)
def test_the_check_itself(source, violations, tmp_path):
    (tmp_path / "plugin.py").write_text(source)
    assert _violations(tmp_path) == violations
