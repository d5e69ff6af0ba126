"""The documentation says what the code does: generated pages are fresh, links lead somewhere, games have pages."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from spiral.api import hooks as hookspecs
from spiral.plugins.registry import Plugins

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "recipes").rglob("*.md"),
        *(ROOT / "plugins").glob("*/README.md"),
    ]
)


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["config", "hooks"])
def test_generated_pages_are_what_the_code_gives(page):
    text = getattr(_generator(), f"{page}_page")()
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_hook_has_a_heading_equal_to_its_signature():
    headings = re.findall(r"^### (.*)$", (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8"), re.M)
    hooks = [f for f in vars(hookspecs).values() if hasattr(f, "spiral_spec")]
    assert headings == [f"{hook.__name__}{inspect.signature(hook)}".replace("'", "") for hook in hooks]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_game_has_a_page():
    for name in Plugins.installed().names("game"):
        if (ROOT / "plugins" / "games" / "spiral_games" / f"{name}.py").exists():
            assert (ROOT / "docs" / "games" / f"{name}.md").exists(), name
