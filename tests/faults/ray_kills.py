"""Kills random processes of a run on Ray with SIGKILL while it trains, and says what became of it: a table of who was
killed, and of what the run's files hold against those of a run that no one disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

MARK = "SPIRAL_KILLED_RUN"
"""A variable in the environment of the processes of one run."""
ACTORS = {"ray::PlayerProc": "engine", "ray::RayTrainWo": "learner"}


def processes(mark: str) -> dict[int, str]:
    """Process -> engine or learner, of the run that has `mark` in its environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            role = next((role for start, role in ACTORS.items() if title.startswith(start)), None)
            if role and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = role
        except OSError:
            continue
    return found


def command(path: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "spiral", "train", *words, "--run-dir", str(path)]


def start(path: Path, *words: str) -> subprocess.Popen[str]:
    """A run whose processes are marked with its directory's name."""
    return subprocess.Popen(
        command(path, *words), env={**os.environ, MARK: path.name}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def lines(path: Path, name: str) -> list[dict]:
    file = path / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kill_some(process: subprocess.Popen[str], path: Path, num: int, rng: random.Random, share: float) -> Counter[str]:
    """Kill `num` of the run's processes, some seconds apart, each after the run went on from the last kill; `share` of
    them learners. How many of which."""
    killed: Counter[str] = Counter()
    while killed.total() < num and process.poll() is None:
        before = len(lines(path, "metrics.jsonl"))
        deadline = time.monotonic() + 120
        while len(lines(path, "metrics.jsonl")) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 0.5))
        role = "learner" if rng.random() < share else "engine"
        there = [pid for pid, is_a in processes(path.name).items() if is_a == role]
        if there:
            os.kill(rng.choice(there), signal.SIGKILL)
            killed[role] += 1
    return killed


def games(path: Path) -> list[tuple[int, int]]:
    """(step, deal) of every game that was written."""
    return [(row["step"], row["deal"]) for row in lines(path, "episodes.jsonl")]
