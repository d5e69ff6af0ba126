"""The process that grades: one job a line on standard input, one grade a line on standard output.

A job may be anything that a model writes, so each has a limit of processor time that the kernel keeps, the process one
of memory, and nothing that a job does may write a file, start a program or open a connection.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from spiral import SpiralError

MAX_BYTES = 2 << 30
"""Of memory, for a job such as 9**9**9."""

_ALLOWED = {"os.listdir", "os.scandir", "os.walk", "os.fwalk"}
_REFUSED = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.", "urllib.", "ftplib.")
_working = False


_FOR_TESTS: dict[str, Callable[..., Any]] = {
    "text": lambda gold, answer: float(gold == answer),
    "pause": lambda: time.sleep(1e6),
    "eval": lambda code: float(bool(eval(code))),
}
"""Graders without an import: one that is quick, one that never ends, and one that runs what a model wrote."""


_MODULES = {
    "math": "spiral_tasks.grading.mathematics",
    "generated": "spiral_tasks.generator_grades",
    "questions": "spiral_tasks.generator_questions",
}
"""Job -> the module whose `prepared` makes a job of its arguments, with all made that it needs."""


def _prepared(kind: str, args: list[Any]) -> Callable[[], Any]:
    if kind in _MODULES:
        made: Callable[[], Any] = importlib.import_module(_MODULES[kind]).prepared(*args)
        return made
    return functools.partial(_FOR_TESTS[kind], *args)


def main(kinds: Iterable[str]) -> None:
    """Grade until standard input ends. `kinds`: the graders to begin the imports of."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # what a library prints is no grade
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all; the end of the pipe ends this one
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)
    for module in filter(None, map(_MODULES.get, kinds)):
        with contextlib.suppress(ImportError):  # which the first job says
            importlib.import_module(module)
    for line in sys.stdin.buffer:
        kind, cpu_s, *args = json.loads(line)
        answer = _answer(kind, cpu_s, args, lambda: print("begins", file=answers, flush=True))
        print(json.dumps(answer), file=answers, flush=True)


def _answer(kind: str, cpu_s: float, args: list[Any], begins: Callable[[], None]) -> dict[str, Any]:
    global _working
    try:
        grade = _prepared(kind, args)
    except SpiralError as error:
        return {"told": str(error)}
    except Exception as error:  # such as of an import: it lies with the grader, whatever the reply
        return {"unprepared": " ".join(f"{type(error).__name__}: {error}".split())}
    try:
        begins()
        # The kernel ends the process: nothing is asked of a job that computes outside of Python.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        _working = True
        return {"grade": grade()}
    except SpiralError as error:
        return {"told": str(error)}
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
