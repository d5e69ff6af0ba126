"""The files of examples/arena_host: quoted on their page as they are, and sound by systemd's own judgement."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from spiral.arena.database import Database
from spiral.commands.main import main

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "examples" / "arena_host").iterdir() if path.name != "README.md")
PAGE = (ROOT / "docs" / "arena-hosting.md").read_text(encoding="utf-8")
UNITS = [path for path in FILES if path.suffix in (".service", ".timer")]
PROGRAM = "/opt/spiral/bin/spiral"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd is installed")


def values(unit, name):
    """What a unit says to a name, in its order."""
    text = next(path for path in UNITS if path.name == unit).read_text(encoding="utf-8")
    return re.findall(rf"^{name}=(.*)$", text, re.M)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_quotes_each_file_as_it_is(path):
    assert f"```\n{path.read_text(encoding='utf-8')}```\n" in re.sub(r"```\w+\n", "```\n", PAGE)


@needs_systemd
def test_systemd_takes_the_units(tmp_path):
    """Each name, value and system call is one that it knows; the program is there."""
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / path.name for path in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "spiral" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", ["spiral-arena.service", "spiral-arena-backup.service"])
def test_a_service_is_exposed_as_little_as_the_page_says(unit):
    """A tenth more or less with another version of systemd."""
    (said,) = re.findall(r"security spiral-arena` says (\d\.\d)", PAGE)
    path = next(path for path in UNITS if path.name == unit)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", path], capture_output=True, text=True
    )
    (found,) = re.findall(r"exposure level for \S+: (\d\.\d)", done.stdout)
    assert float(found) <= float(said) + 0.1


def test_the_service_starts_what_the_command_line_takes():
    """With the options that the page shows."""
    (start,) = values("spiral-arena.service", "ExecStart")
    (options,) = re.findall(r"^SPIRAL_ARENA_OPTIONS=(.*)$", PAGE, re.M)
    words = shlex.split(start.replace("${SPIRAL_ARENA_DB}", "sqlite:///a.db").replace("$SPIRAL_ARENA_OPTIONS", options))
    assert words[0] == PROGRAM
    name, command, rest = main.resolve_command(click.Context(main), words[1:])
    assert command.make_context(name, list(rest)).params["db"] == "sqlite:///a.db"


def test_a_copy_is_made_and_old_ones_go(tmp_path):
    """The two commands of the unit, as systemd would hand them to the shell."""
    database, folder = tmp_path / "arena.db", tmp_path / "copies"
    folder.mkdir()
    Database(f"sqlite:///{database}").close()
    spiral = tmp_path / "spiral"
    spiral.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spiral "$@"\n', encoding="utf-8")
    spiral.chmod(0o755)
    for name, days in (("arena-old.db", 15), ("arena-new.db", 13), ("other.db", 99)):
        (folder / name).write_text("", encoding="utf-8")
        os.utime(folder / name, (time.time() - 86_400 * days,) * 2)
    assert values("spiral-arena-backup.service", "Environment") == [
        "SPIRAL_ARENA_DB=sqlite:////var/lib/spiral-arena/arena.db SPIRAL_ARENA_KEEP_DAYS=14"
    ]
    env = {**os.environ, "SPIRAL_ARENA_DB": f"sqlite:///{database}", "SPIRAL_ARENA_KEEP_DAYS": "14"}
    for name in ("ExecStart", "ExecStartPost"):
        (command,) = values("spiral-arena-backup.service", name)
        command = (
            command.replace("%%", "%").replace(PROGRAM, str(spiral)).replace("/var/backups/spiral-arena", str(folder))
        )
        subprocess.run(shlex.split(command), check=True, env=env, cwd=ROOT)
    (made,) = [path.name for path in folder.iterdir() if path.name not in ("arena-new.db", "other.db")]
    assert re.fullmatch(r"arena-\d{8}T\d{6}Z\.db", made)
    Database(f"sqlite:///{folder / made}", exists=True).close()
