"""A run's directory: what was asked, what was installed, what happened; readable while it is being written.

config.yaml  plugins.json  metrics.jsonl  episodes.jsonl  voided.jsonl  samples.jsonl  events.jsonl  policy.json
pool.json  read_from.json  checkpoints/  snapshots/  first/  bots/  report.html  .lock
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spiral.api.errors import ConfigError, RunError
from spiral.api.records import PolicyId, VoidedGame, learner_name
from spiral.config.loading import dump, load
from spiral.config.schema import Config
from spiral.runs import lock
from spiral.runs.files import append, write_atomic

_LOGS = ("metrics.jsonl", "episodes.jsonl", "voided.jsonl", "samples.jsonl", "timeline.jsonl")


class RunDir:
    """One run's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Config, versions: Mapping[str, str]) -> RunDir:
        """A new run. Raises RunError if something is there already."""
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made ({error.strerror}); give another --run-dir") from error
        run = cls(path)
        run.write("plugins.json", json.dumps(dict(sorted(versions.items())), indent=2) + "\n")
        run.write("config.yaml", dump(config))  # last: a directory with a config is a run
        return run

    @classmethod
    def open(cls, path: Path) -> tuple[RunDir, Config]:
        """An existing run and its configuration. Raises RunError if there is none."""
        check_name(path)
        if not (path / "config.yaml").is_file():
            what = "does not exist" if not path.exists() else "has no config.yaml"
            raise RunError(f"{path} is not a run: it {what}; `spiral train --run-dir {path}` would start one")
        try:
            return cls(path), load(path / "config.yaml")
        except ConfigError as error:
            raise RunError(f"the config of run {path} cannot be used: {error}") from error

    def discard(self) -> None:
        """Remove a run that never took a step."""
        shutil.rmtree(self.path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.path / "checkpoints"

    def checkpoint_paths(self) -> list[Path]:
        """Whole checkpoints, oldest first.

        A kill between the two renames that replace one leaves it under the name that it had meanwhile.
        """
        entries = sorted(self.checkpoints.glob("*"))  # `.step-N.old` before `step-N`, which replaces it
        whole = {step_of(path): path for path in entries if _is_checkpoint(path) and (path / "state.json").is_file()}
        return [whole[step] for step in sorted(whole)]

    def foreign(self) -> list[Path]:
        """What lies among the checkpoints and is none, such as a copy made by hand; it is left alone."""
        ours = {path.name for path in self.checkpoint_paths()}
        return [path for path in sorted(self.checkpoints.glob("[!.]*")) if path.name not in ours]

    def checkpoint(self, step: int | None = None) -> Path:
        """The checkpoint of `step`, or the newest one. Raises RunError if there is none."""
        paths = self.checkpoint_paths()
        if not paths:
            raise RunError(f"run {self.path} has no checkpoint yet; let it reach its first one (checkpoint.every)")
        if step is None:
            return paths[-1]
        by_step = {step_of(path): path for path in paths}
        if step not in by_step:
            known = ", ".join(map(str, by_step))
            raise RunError(f"run {self.path} has no checkpoint of step {step}; it has: {known}")
        return by_step[step]

    def read_from(self) -> dict[str, str]:
        """What the run's models were read from when it began: path -> fingerprint; empty if that is not known."""
        path = self.path / "read_from.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise RunError(f"{path} is damaged; put it back, or delete it if what it is about did not change")
        return {str(name): str(value) for name, value in known.items()}

    def keep_read_from(self, found: Mapping[str, str]) -> None:
        """Keep what `read_from` gives."""
        self.write("read_from.json", json.dumps(dict(found), indent=2) + "\n")

    @property
    def snapshots(self) -> Path:
        """Where the weights of past versions are kept that are opponents."""
        return self.path / "snapshots"

    def snapshots_of(self, learner: PolicyId) -> Path:
        """Where those of one policy in training are kept: of the main one beside the folders of the others."""
        return self.snapshots / learner_name(learner)

    def first(self, learner: PolicyId) -> Path:
        """Where a policy that is reset has what it began with."""
        return self.path / "first" / learner_name(learner)

    @property
    def bots(self) -> Path:
        """Where bots keep what neither a resume nor a rollback undoes."""
        return self.path / "bots"

    def write(self, name: str, text: str) -> None:
        """Replace a file at once: a reader sees the old one or the new one."""
        write_atomic(self.path / name, text)

    def append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Add JSON lines."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        if text:
            append(self.path / name, text.encode("utf-8"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics.jsonl. A number that is not finite becomes null."""
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self.append("metrics.jsonl", [{"step": step, **values}])

    def log_voided(self, step: int, games: Sequence[VoidedGame]) -> None:
        """Voided games, with all that is needed to play them again."""
        self.append("voided.jsonl", [{"step": step, **asdict(game)} for game in games])

    def rewind(self, step: int) -> None:
        """Forget what was written at `step` or later, and a last line that a kill cut in two."""
        for name in _LOGS:
            path = self.path / name
            if path.exists():
                kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) < step]
                self.write(name, "".join(line + "\n" for line in kept))

    def write_events(self, events: Sequence[Mapping[str, Any]]) -> None:
        """All events of the run's health so far; no file without any."""
        if events or (self.path / "events.jsonl").exists():
            self.write("events.jsonl", "".join(json.dumps(event) + "\n" for event in events))

    def set_aside(self, step: int, name: str) -> None:
        """Keep the metrics of `step` and later, which a rollback is about to forget, in a file of their own."""
        kept = [line for line in self.metrics() if line["step"] >= step]
        self.write(name, "".join(json.dumps(line) + "\n" for line in kept))

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl that are whole."""
        return self._lines("metrics.jsonl")

    def episodes(self) -> list[dict[str, Any]]:
        """All lines of episodes.jsonl that are whole."""
        return self._lines("episodes.jsonl")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        """Without a last line that is being written, or that a kill cut in two."""
        path = self.path / name
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if _step(line) < math.inf]


LEARNERS = "learners"
"""Within a checkpoint, where the policies lie that are trained beside the main one, a folder each."""


def policy_folder(checkpoint: Path, learner: str = "") -> Path:
    """Where a checkpoint keeps one of the policies that the run trains. Raises RunError if it holds no such one."""
    if not learner:
        return checkpoint
    folder = checkpoint / LEARNERS / learner
    if not (folder / "state.json").is_file():
        known = ", ".join(sorted(path.name for path in checkpoint.glob(f"{LEARNERS}/*"))) or "none"
        raise RunError(f"checkpoint {checkpoint} has no policy '{learner}' beside its main one; it has: {known}")
    return folder


def run_of(policy: Path) -> RunDir:
    """The run whose checkpoint holds a policy."""
    checkpoint = policy if policy.parent.name != LEARNERS else policy.parents[1]
    return RunDir(checkpoint.parents[1])


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint's directory."""
    return int(checkpoint.name.removeprefix(".").removeprefix("step-").removesuffix(".old"))


def check_name(path: Path) -> None:
    """Raise RunError for a path in bytes that are no UTF-8: safetensors writes there, and cannot read it back."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(
            f"{path} has a name that is no UTF-8, and weights cannot be read from there; rename it, or give another"
        ) from error


def _is_checkpoint(path: Path) -> bool:
    return re.fullmatch(r"step-[0-9]{6,}|\.step-[0-9]{6,}\.old", path.name) is not None


def check_free(path: Path) -> None:
    """Raise RunError for a path where no new run can be, since something is there already."""
    check_name(path)
    if path.exists() and (not path.is_dir() or any(not _is_unfinished(file) for file in path.iterdir())):
        raise RunError(f"{path} exists and is not empty; give another --run-dir, or --resume to continue the run in it")


def _is_unfinished(file: Path) -> bool:
    """Whether a start that was killed may have left this file: a directory without a config is no run yet."""
    return file.name in (lock.NAME, "plugins.json", ".plugins.json.tmp", ".config.yaml.tmp")


def _step(line: str) -> float:
    """The step of a JSON line; infinity for a line that is not whole."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
