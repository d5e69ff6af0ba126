"""docs/trust.md promises nothing that no test holds: each sentence of its lists begins or stands in a test's docstring."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ITEMS = re.findall(r"^- (.*(?:\n  .*)*)", (ROOT / "docs" / "trust.md").read_text(encoding="utf-8"), re.M)
SENTENCES = [" ".join(item.split()) for item in ITEMS]


@pytest.fixture(scope="module")
def docstrings():
    """Of all tests, on one line each."""
    files = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("plugins/*/tests/test_*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    tests = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return [" ".join((ast.get_docstring(test) or "").split()) for test in tests]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_test_holds_the_sentence(sentence, docstrings):
    assert any(sentence in text for text in docstrings), f"no test's docstring says: {sentence}"


def test_the_page_has_its_lists():
    assert len(SENTENCES) == len(set(SENTENCES)) > 20
