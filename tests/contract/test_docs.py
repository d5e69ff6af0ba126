"""The documentation says what the code does: generated pages are fresh, links lead somewhere, commands and configs load."""

import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from spiral.api import hooks as hookspecs
from spiral.commands.main import main
from spiral.config import loading
from spiral.plugins.registry import Plugins

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "recipes").rglob("*.md"),
        *(ROOT / "plugins").glob("*/README.md"),
    ]
)

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
every_page_of_today = pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda p: str(p.relative_to(ROOT))
)


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["config", "cli", "plugins", "hooks", "api"])
def test_generated_pages_are_what_the_code_gives(page):
    text = getattr(_generator(), f"{page}_page")()
    assert (REFERENCE / f"{page}.md").read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_hook_has_a_heading_equal_to_its_signature():
    headings = re.findall(r"^### (.*)$", (REFERENCE / "hooks.md").read_text(encoding="utf-8"), re.M)
    hooks = [f for f in vars(hookspecs).values() if hasattr(f, "spiral_spec")]
    assert headings == [f"{hook.__name__}{inspect.signature(hook)}".replace("'", "") for hook in hooks]


@every_page
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _prose(page)):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@every_page_of_today
def test_commands_in_blocks_parse(page):
    """Each `spiral ...` line of a code block is parsed and not run; the overrides and the config file of `train` load."""
    for words in _commands(page):
        name, command, rest = main.resolve_command(click.Context(main), words)
        context = command.make_context(name, list(rest), resilient_parsing=False)
        said = context.params.get("words", context.params.get("overrides", ()))
        texts = context.params.get("texts", ())  # of a reader's own machine
        overrides = [word for word in (*said, *texts) if "=" in word]
        layers = [{"text.paths": ["text"]}, *overrides] if name == "pretrain" else overrides
        _, faults = loading.read(None, layers)
        assert faults == [], words
        for word in said:
            assert "=" in word or (ROOT / word).exists(), f"{page.name} names {word}"


@every_page_of_today
def test_commands_in_prose_exist(page):
    """`spiral NAME` between back-ticks names a command."""
    for name in re.findall(r"`spiral ([a-z][a-z-]*)[^`]*`", _prose(page)):
        assert name in main.commands, f"{page.name} names spiral {name}"


@every_page_of_today
def test_configs_in_blocks_load(page, tmp_path):
    """Each block of YAML is a part of a run's config: its keys exist and its values fit."""
    for block in _blocks(page, "yaml"):
        path = tmp_path / "config.yaml"
        path.write_text(block, encoding="utf-8")
        assert isinstance(yaml.safe_load(block), dict)
        _, faults = loading.read(path)
        assert faults == [], block


def test_every_game_has_a_page():
    native = {
        r.name for r in Plugins.installed().registrations() if r.kind == "game" and r.distribution == "spiral-games"
    }
    assert len(native) > 10
    for name in native:
        assert (ROOT / "docs" / "games" / f"{name}.md").exists(), name


def _prose(page):
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def _blocks(page, *languages):
    return [code for language, code in FENCED.findall(page.read_text(encoding="utf-8")) if language in languages]


def _commands(page):
    """The words behind `spiral`, or `-m spiral`, of each such line of a block; usage lines are no commands."""
    for block in _blocks(page, "", "sh", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(accelerate launch .*-m )?spiral [a-z]", line):
                words = shlex.split(line, comments=True)
                yield words[words.index("spiral") + 1 :]
