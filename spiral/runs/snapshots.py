"""The weights of past versions of the learner, on disk; knows nothing of who plays them.

A file is whole or absent, and stays as long as the run or one of its checkpoints may ask for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spiral.api.errors import RunError


def write(directory: Path, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Keep the weights of `step`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = _path(directory, step)
    unfinished = path.with_name(f".{path.name}.tmp")
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def read(directory: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of `step`. Raises RunError if they are not there or damaged."""
    path = _path(directory, step)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"snapshot {path} of the run's pool cannot be read ({type(error).__name__}); put it back, or start again"
        ) from error


def prune(directory: Path, steps: Iterable[int], checkpoints: Iterable[Path]) -> None:
    """Delete the files of all snapshots that neither the pool, with `steps`, nor a checkpoint would ask for."""
    wanted = {*steps}
    for checkpoint in checkpoints:
        pool = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["plugins"].get("pool", {})
        wanted |= {*pool.get("snapshots", [])}
    for path in directory.glob("step-*.safetensors"):
        if int(path.stem.removeprefix("step-")) not in wanted:
            path.unlink(missing_ok=True)


def _path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:06d}.safetensors"
