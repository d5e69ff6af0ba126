"""Text that others wrote is shown and not obeyed: by terminals, logs and pages."""

import ast
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner
from spiral_games.native.kuhn_poker import KuhnPoker

import spiral
from spiral import SpiralError, Unavailable, hookimpl, printable
from spiral.commands.main import main
from spiral.plugins.registry import Plugins
from spiral.reports.html.document import document

SOURCE = Path(spiral.__file__).parent
EVIL = "\x1b[2J\x1b]0;mine\x07\x9b31m\r\u202eniw uoy\u202c\u200b"
SHOWN = r"\x1b[2J\x1b]0;mine\x07\x9b31m\r\u202eniw uoy\u202c\u200b"


def steers(text):
    """Whether a character of the text steers a terminal or turns the direction of writing."""
    return any(c in text for c in EVIL if not c.isascii() or not c.isprintable())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, SHOWN),
        ("plain, ümläut, 漢字, \u05d0\u05d1, ✓", "plain, ümläut, 漢字, \u05d0\u05d1, ✓"),
        ("lines\nand\ttabs", "lines\nand\ttabs"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        ("a\x00\x08\x0b\x0c\x7f\x85", r"a\x00\x08\x0b\x0c\x7f\x85"),
        ("\u2066a\u2069\u2028b\ufeff\u061c\xad", r"\u2066a\u2069\u2028b\ufeff\u061c\xad"),
        ("\U000e0041\ud800", r"\U000e0041\ud800"),
        ("", ""),
    ],
)
def test_what_steers_is_written_as_an_escape(text, shown):
    """All else stays, scripts from right to left and joined emoji too."""
    assert printable(text) == (text if shown is None else shown)
    assert printable(printable(text)) == printable(text)


class SneakyKuhn(KuhnPoker):
    """Kuhn poker that tells more than its rules."""

    def observe(self, player):
        return f"{super().observe(player)} {EVIL}"


class Down:
    """A bot whose model does not answer."""

    external = True

    def choose(self, game, player, rng):
        raise Unavailable(f"down {EVIL}", EVIL)


class First:
    """A bot that makes the first legal move."""

    def choose(self, game, player, rng):
        return game.legal_moves()[0]


class Refusing:
    """A bot that refuses to play."""

    def choose(self, game, player, rng):
        raise SpiralError(f"no {EVIL}")


@pytest.fixture
def sneaky(monkeypatch):
    installed = Plugins.installed

    class Plugin:
        @hookimpl
        def register_games(self, register):
            register("sneaky", SneakyKuhn)

        @hookimpl
        def register_bots(self, register):
            register("down", Down)
            register("first", First)
            register("refusing", Refusing)

    def with_sneaky():
        plugins = installed()
        plugins.add(Plugin(), "acme")
        return plugins

    monkeypatch.setattr(Plugins, "installed", with_sneaky)


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["play", "random", "--game", "sneaky", "--seed", "1"], "bet\nbet\n"),
        (["play", "refusing", "--game", "sneaky", "--player", "1"], ""),
        (["tournament", "random", "down", "first", "--game", "sneaky", "--games", "4"], ""),
        (["check", "refusing"], ""),
    ],
)
def test_no_command_lets_text_steer_the_terminal(sneaky, words, typed, tmp_path, monkeypatch):
    """What a game, a policy or a server writes is shown on the terminal and not obeyed: control sequences, and marks that
    turn the direction of writing, are written as escapes."""
    monkeypatch.chdir(tmp_path)
    output = CliRunner().invoke(main, words, input=typed, catch_exceptions=False).output
    assert r"\u202eniw uoy" in output
    assert not steers(output)


def test_log_lines_are_printable(caplog):
    """A log line is printable too, whatever it quotes."""
    from spiral.plugins.observers import log

    with caplog.at_level(logging.WARNING):
        log.warning("logger '%s' failed: %s", "x", EVIL)
    assert caplog.messages == [f"logger 'x' failed: {SHOWN}"]


def test_pages_are_printable():
    """In a page too, wherever the text stands."""
    page = document(f"run {EVIL}", {EVIL: [EVIL, {"deep": (EVIL, 1, None)}]}, "", "")
    assert not steers(page)
    assert r"\\u202eniw" in page
    assert not any(code in page for code in (r"\u001b", r"\u202e".replace("\\u", "\\u00"), '"\\u202e'))


WAYS_OUT = {
    "print": ["commands/output.py", "training/session.py"],
    "echo": [],
    "getLogger": ["api/text.py"],
    "secho": [],
}
"""Function -> the files that may call it as Python's or a library's own."""


def test_every_way_out_of_the_core_is_through_printable():
    """A new echo, log line or table is written by the same function, or this names the file."""
    found = {name: set() for name in WAYS_OUT}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                module = node.func.value if isinstance(node.func, ast.Attribute) else None
                name = node.func.attr if module is not None else getattr(node.func, "id", "")
                library = module is None or (isinstance(module, ast.Name) and module.id in ("click", "logging"))
                if name in WAYS_OUT and library and not (name == "echo" and module is None):
                    found[name].add(path.relative_to(SOURCE).as_posix())
    assert {name: sorted(files) for name, files in found.items()} == WAYS_OUT
    consoles = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py") if "import Console" in p.read_text()}
    for file in sorted(consoles):
        for line in (SOURCE / file).read_text(encoding="utf-8").splitlines():
            if "onsole.print(" in line and line.rstrip()[-1] != "(":
                assert "printable(" in line or "shown(" in line or "_matrix(" in line, f"{file}: {line}"
