"""The process that grades: one job a line on standard input, one grade a line on standard output.

A job may be anything that a model writes, so each has a limit of processor time that the kernel keeps, the process one
of memory, and nothing that a job does may write a file, start a program or open a connection.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MAX_BYTES = 2 << 30
"""Of memory, for a job such as 9**9**9."""

_ALLOWED = {"os.listdir", "os.scandir", "os.walk", "os.fwalk"}
_REFUSED = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.", "urllib.", "ftplib.")
_working = False


def _prepared(kind: str, args: list[Any]) -> Callable[[], float]:
    """A job, with all imported and made that it needs: what is left to do is the grade."""
    if kind == "math":
        from spiral_tasks.grading.mathematics import grade

        return functools.partial(grade, *args)
    if kind == "generated":
        from spiral_tasks.generated_grades import prepared

        return prepared(*args)
    if kind == "pause":  # for ever: what the limit of time is tested with
        return lambda: float(signal.pause() or 0)
    raise ValueError(f"no grader '{kind}'")


def main() -> None:
    """Grade until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # what a library prints is no grade
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all; the end of the pipe ends this one
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)
    for line in sys.stdin.buffer:
        kind, cpu_s, *args = json.loads(line)
        answer = _answer(kind, cpu_s, args, lambda: print("begins", file=answers, flush=True))
        print(json.dumps(answer), file=answers, flush=True)


def _answer(kind: str, cpu_s: float, args: list[Any], begins: Callable[[], None]) -> dict[str, Any]:
    global _working
    try:
        grade = _prepared(kind, args)
        begins()
        # The kernel ends the process: nothing is asked of a job that computes outside of Python.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        _working = True
        return {"grade": float(grade())}
    except Exception as error:
        return {"error": f"raised {type(error).__name__}"}
    finally:
        _working = False
        signal.setitimer(signal.ITIMER_PROF, 0)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: some graders run what a model wrote as Python."""
    if not _working or event in _ALLOWED:
        return
    if event.startswith(_REFUSED) or (event == "open" and _writes(*args[1:3])):
        raise PermissionError(f"a reply asked for {event}")


def _writes(mode: object, flags: object) -> bool:
    told = isinstance(mode, str) and bool(set(mode) & set("wax+"))
    return told or (isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
