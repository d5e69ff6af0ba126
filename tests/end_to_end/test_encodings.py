"""No text ends a command: a terminal without its characters gets escapes, and a name that is no text is a sentence."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from spiral import SpiralError
from spiral.commands.main import main
from spiral.config.loading import load
from spiral.runs.directory import RunDir
from spiral.seeds import derive

ROOT = Path(__file__).parents[2]
SMALL = [
    "steps=1", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.legal=0", "warm_start.batch=8", "games=[ünsinn]",
    "warm_start.cache=false", "evaluate.matches=2", "evaluate.opponents=[random]", "opponents=mirror", "checkpoint.every=1",
]  # fmt: skip
COMMANDS = [
    ["train", "--run-dir", "läufe/eins", *SMALL],
    ["train", "--run-dir", "läufe/eins", "--resume", "steps=2"],
    ["train", "--run-dir", "läufe/eins"],
    ["eval", "läufe/eins", "--games", "2"],
    ["eval", "läufe/eins", "--games", "2", "--json"],
    ["exploitability", "läufe/eins", "--policy-out", "läufe/politik.json"],
    ["exploitability", "läufe/eins", "--samples", "20"],
    ["tournament", "läufe/eins", "läufe/eins@1", "random", "--games", "2", "--out", "läufe/turnier"],
    ["play", "läufe/eins", "--seed", "1"],
    ["eval", "läufe/eins", "--opponent", "human", "--games", "1"],
    ["best-response", "läufe/eins", "--run-dir", "läufe/antwort", "steps=1", "--games", "4", "rollout.episodes=8"],
    ["new", "game", "mine", "--dir", "läufe/neu"],
    ["plugins"],
    ["plugins", "ünsinn"],
    ["check", "ünsinn"],
    ["eval", "läufe/keine"],
    ["train", "läufe/keine.yaml"],
    ["train", "prüfung"],
]
SCRIPT = """
import os, sys, traceback
from spiral import hookimpl
from spiral.commands.main import main
from spiral.plugins.registry import Plugins

class Game:
    '''Ein Spiel für zwei: größer gewinnt, ≥.'''
    num_players, rules, worst_return, zero_sum = 2, 'Sage groß oder klein ≥ \U0001f0a1.', -1.0, True
    perfect_information = True
    def deals(self):
        return [(0.5, 'ä'), (0.5, 'ö')]
    def reset_to(self, deal):
        self.card, self.said = deal, []
    def reset(self, rng):
        self.reset_to(rng.choice('äö'))
    def current_player(self):
        return len(self.said) if len(self.said) < 2 else None
    def observe(self, player):
        return f'Karte {self.card} \U0001f0a1' + ' '.join(self.said)
    def legal_moves(self):
        return ['groß', 'klein'] if self.current_player() is not None else []
    def play(self, move):
        if move not in self.legal_moves():
            from spiral import IllegalMove
            raise IllegalMove('größer')
        self.said.append(move)
    def returns(self):
        return [1.0, -1.0] if self.said[0] == 'groß' else [-1.0, 1.0]

class Local:
    @hookimpl
    def register_games(self, register):
        register('ünsinn', Game)

installed = Plugins.installed
def with_local():
    found = installed()
    found.add(Local(), 'lokäl', '1.0')
    return found
Plugins.installed = with_local

for words in WORDS:
    print('$', ascii(words), flush=True)
    try:
        code = main.main([os.fsdecode(word.encode()) for word in words], standalone_mode=False)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        code = 1
    print('\\n=>', code or 0, flush=True)
"""


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow, id="ascii terminal"),
        pytest.param({"PYTHONUTF8": "0", "LC_ALL": "C"}, id="C locale"),
    ],
)
def test_every_command_prints_to_a_terminal_without_umlauts(tmp_path, env):
    """Games, plug-ins and directories with names of other alphabets: nothing but ASCII comes out, and all commands work.

    In the C locale a name in a config cannot be read as text, which is a sentence; everything else works there too.
    """
    in_config = "LC_ALL" in env
    commands = [[word for word in words if not (in_config and word == "games=[ünsinn]")] for words in COMMANDS]
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("WORDS", repr(commands)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env={**os.environ, **env, "COLUMNS": "200"}, capture_output=True,
        input="groß\nklein\nbet\n".encode() * 40, timeout=280,
    )  # fmt: skip
    out = done.stdout.decode("ascii") + done.stderr.decode("ascii")
    assert "Traceback" not in out, out[-4000:]
    codes = [line.removeprefix("=> ") for line in out.splitlines() if line.startswith("=> ")]
    refused = {2, len(codes) - 3, len(codes) - 2, len(codes) - 1}
    refused |= {10} if in_config else set()  # its config would name the run
    refused |= {13, 14} if in_config else set()  # the plug-in's name is not the word's bytes
    assert {i for i, code in enumerate(codes) if code == "2"} == refused, out
    assert len(codes) == len(COMMANDS)
    assert ("open l\\xe4ufe/eins" if not in_config else "open l\\udcc3\\udca4ufe/eins") in out
    assert (tmp_path / "läufe" / "eins" / "report.html").exists()


def test_a_name_that_is_no_text_is_refused_before_anything_is_written(tmp_path):
    """safetensors cannot read from such a path: the weights of a run would be lost."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lauf-\xfc"))
    for words in (["train", "--run-dir"], ["eval"], ["play"], ["exploitability"]):
        result = CliRunner().invoke(main, [*words, str(path)])
        assert result.exit_code == 2, result.output
        assert "has a name that is no UTF-8" in result.output
    assert [*tmp_path.iterdir()] == []


def test_a_text_in_a_config_that_is_no_utf8_is_a_sentence():
    """It could not be read back from config.yaml; found in a word of the command line and in a mapping."""
    with pytest.raises(SpiralError, match=r"override 'model.args.path=m-\udcfc'"):
        load(None, ["model.args.path=m-\udcfc"])
    with pytest.raises(SpiralError, match=r"model.args.path is 'm-\\udcfc', which is no UTF-8 text"):
        load(None, [{"model": {"name": "hf", "args": {"path": "m-\udcfc"}}}])


def test_a_seed_descends_from_any_name():
    """The same draws as ever for text, and some for a name of other bytes."""
    assert derive(0, "ä") == 911694630385276058
    assert derive(0, "\udcfc") != derive(0, "\udcfd")


def test_files_are_opened_with_an_encoding():
    """The locale decides otherwise, and a file that was written on one machine is not read on the next."""
    found = []
    for path in [p for folder in ("spiral", "plugins", "tools", "perf") for p in (ROOT / folder).rglob("*.py")]:
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text"):
                found += [] if any(k.arg == "encoding" for k in node.keywords) else [(path, node.lineno)]
    assert found == []


def test_a_run_directory_in_the_c_locale_is_the_one_of_its_name(tmp_path):
    """Bytes that are UTF-8 are accepted, whatever the locale makes of them."""
    run = RunDir.create(tmp_path / "läufe", load(None), {})
    assert run.path.is_dir()
