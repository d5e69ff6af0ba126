"""CPU seconds of short commands, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from perf.measure import Figure, spread

TARGET_S = 0.5
REPEATS = 5
COMMANDS: dict[str, tuple[Sequence[str], int]] = {
    "--help": (("--help",), 0),
    "plugins": (("plugins",), 0),
    "config error": (("train", "learner.lrr=1"), 2),
}
"""What is measured -> arguments of `spiral`, and the exit code that they must give."""


def figures() -> Iterator[Figure]:
    """Median over a few runs; a bare interpreter's time beside it."""
    floor = spread(_cpu_seconds([sys.executable, "-c", "pass"], 0) for _ in range(REPEATS))
    for name, (arguments, code) in COMMANDS.items():
        command = [sys.executable, "-m", "spiral", *arguments]
        taken = spread(_cpu_seconds(command, code) for _ in range(REPEATS))
        detail = {"cpu_s": taken, "bare_interpreter_cpu_s": floor}
        yield Figure(f"startup {name}", taken["median"], "CPU s", TARGET_S, at_least=False, detail=detail)


def _cpu_seconds(command: Sequence[str], code: int) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}, not {code}")
    return usage.ru_utime + usage.ru_stime
