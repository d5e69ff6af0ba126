"""Checkpoints: written beside and renamed into place, so that each one that has its name is whole.

step-000100/model/            the averaged weights, config and tokenizer, as transformers saves them
step-000100/live.safetensors  reference.safetensors  optimizer.pt  state.json
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from spiral.api.errors import RunError
from spiral.api.training import Stateful
from spiral.learning.full_learner import Learner

REGULARISER = ("reference", "trail")
"""Weights that a learner has with a KL term only."""


def save(
    directory: Path,
    step: int,
    learner: Learner,
    tokenizer: Any,
    plugins: Mapping[str, object],
    keep: int,
    spare: int | None = None,
) -> Path:
    """Write the checkpoint of `step`; its path. Drops all but the newest `keep` (0: none) and that of step `spare`."""
    directory.mkdir(parents=True, exist_ok=True)
    final, temporary = directory / f"step-{step:06d}", directory / f".step-{step:06d}.tmp"
    for left_over in directory.glob(".step-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary.mkdir()
    state = learner.state()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar a checkpoint would tear the run's own display
    learner.averaged_model.save_pretrained(temporary / "model")
    tokenizer.save_pretrained(temporary / "model")
    save_file(state.pop("model"), temporary / "live.safetensors")
    save_file(state.pop("average"), temporary / "averaged.safetensors")
    for name in REGULARISER:
        if weights := state.pop(name):
            save_file(weights, temporary / f"{name}.safetensors")
    torch.save(state.pop("optimizer"), temporary / "optimizer.pt")
    states = {name: plugin.state for name, plugin in plugins.items() if isinstance(plugin, Stateful)}
    (temporary / "state.json").write_text(json.dumps({"step": step, "learner": state, "plugins": states}))
    _sync(temporary)
    before = final.with_name(f".{final.name}.old")
    if final.exists():  # moved first, not deleted: a kill in the middle must not leave half of it under its name
        os.rename(final, before)
    os.rename(temporary, final)
    shutil.rmtree(before, ignore_errors=True)
    drop([path for path in found(directory)[:-keep] if step_of(path) != spare] if keep else [])
    return final


def drop(paths: Sequence[Path]) -> None:
    """Delete checkpoints, in this order."""
    for old in paths:
        gone = old.with_name(f".{old.name}.old")  # a kill in the middle must not leave what looks whole
        os.rename(old, gone)
        shutil.rmtree(gone)


def found(directory: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    whole = (path for path in directory.glob("step-*") if (path / "state.json").is_file())
    return sorted(whole, key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.name.removeprefix("step-"))


def latest(run_dir: Path) -> Path:
    """The newest checkpoint of a run. Raises RunError if there is none."""
    paths = found(run_dir / "checkpoints")
    if not paths:
        raise RunError(f"run {run_dir} has no checkpoint yet; let it reach its first one (checkpoint.every)")
    return paths[-1]


def restore(path: Path, learner: Learner, plugins: Mapping[str, object]) -> int:
    """Put everything back as `save` found it; the step to go on with. Raises RunError for a damaged checkpoint."""
    try:
        record = json.loads((path / "state.json").read_text())
        files = {name: path / f"{name}.safetensors" for name in REGULARISER}
        learner.load_state(
            {
                **record["learner"],
                "model": load_file(path / "live.safetensors"),
                "average": load_file(path / "averaged.safetensors"),
                **{name: load_file(file) if file.exists() else None for name, file in files.items()},
                "optimizer": torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
            }
        )
        for name, plugin in plugins.items():
            if isinstance(plugin, Stateful) and name in record["plugins"]:
                plugin.state = record["plugins"][name]
        return int(record["step"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        EOFError,
        UnpicklingError,
        SafetensorError,
    ) as error:
        raise _damaged(path, error) from error


def averaged_weights(path: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint, named as `spiral.models.logits.parameters` names them."""
    try:
        return load_file(path / "averaged.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RunError:
    reason = (str(error).splitlines() or [""])[0]
    return RunError(
        f"checkpoint {path} cannot be read ({type(error).__name__}: {reason}); delete it to go on from the one before"
    )


def _sync(directory: Path) -> None:
    """Have the files on disk before the rename that makes them count."""
    for path in [p for p in directory.rglob("*") if p.is_file()]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
