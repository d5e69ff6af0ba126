"""Commands in processes of their own, and what is told of them: no seed is silent for ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tools.transfer.experiment import ROOT

TELL_S = 5.0
"""Seconds between two looks at how far a command is."""
SILENT_S = 8.0
"""Seconds after which the last line is told again."""

_RUNNING: set[subprocess.Popen[bytes]] = set()


class Teller:
    """Tells the lines of one seed; while it is entered, the last one again where nothing else was said for a while."""

    def __init__(
        self, number: int, out: Callable[[str], None] = lambda text: print(text, flush=True), silent_s: float = SILENT_S
    ) -> None:
        self._number, self._out, self._silent_s = number, out, silent_s
        self._start = self._said = time.monotonic()
        self._last = "starting"
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._repeat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def __call__(self, text: str) -> None:
        self._last, self._said = text, time.monotonic()
        self._out(f"seed {self._number}, {self._said - self._start:4.0f} s  {text}")

    def _repeat(self) -> None:
        while not self._over.wait(self._silent_s / 8):
            if time.monotonic() - self._said > self._silent_s:
                self(self._last)


def run_spiral(words: Sequence[str], log: Path, told: Callable[[], str], tell: Callable[[str], None]) -> None:
    """The command line in a process of its own. Raises SystemExit with the end of its output where it fails."""
    env = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **os.environ}
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "spiral", *words], cwd=ROOT, env=env, stdout=out, stderr=out)
        _RUNNING.add(process)
        try:
            code = None
            while code is None:
                try:
                    code = process.wait(TELL_S)
                except subprocess.TimeoutExpired:
                    tell(told())
        finally:
            _RUNNING.discard(process)
            process.terminate()  # nothing where it ended
    if code:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"spiral {' '.join(words)}\nended with {code}; the end of {log}:\n{end}")


def stop_all() -> None:
    """The commands keep a checkpoint and end."""
    for process in list(_RUNNING):
        process.terminate()
