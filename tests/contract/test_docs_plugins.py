"""docs/guides/writing-a-plugin.md does what it says: its blocks run in order as one module, and its plug-ins pass the kit."""

import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from spiral.plugins.registry import Plugins
from spiral.testing import check

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "writing-a-plugin.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def module():
    made = types.ModuleType("spiral_high_card")
    sys.modules[made.__name__] = made  # its games must be picklable
    for code in blocks("python"):
        exec(compile(code, str(PAGE), "exec"), vars(made))
    yield made
    del sys.modules[made.__name__]


def test_the_tests_on_the_page_pass(module):
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_hooks_on_the_page_register_plug_ins_that_pass(module):
    plugins = Plugins.installed()
    plugins.add(module, "spiral-high-card")
    for kind, name in [("game", "high_card"), ("advantage", "discounted"), ("opponents", "until_it_wins")]:
        assert check(plugins, kind, name) == []


def test_the_game_is_as_short_as_the_page_says():
    code = blocks("python")[0]
    body = code[code.index("class ") :].split('"""')[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 30
    estimator = next(code for code in blocks("python") if "class Discounted" in code)
    assert len([line for line in estimator.splitlines() if line.strip()]) <= 10


def test_the_toml_names_the_module():
    (text,) = blocks("toml")
    assert tomllib.loads(text)["project"]["entry-points"]["spiral"] == {"high-card": "spiral_high_card"}


def test_lines_fit_the_page():
    assert [line for line in PAGE.read_text(encoding="utf-8").splitlines() if len(line) > 120] == []
