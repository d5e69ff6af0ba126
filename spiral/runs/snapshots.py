"""The weights of past versions of a learner, on disk.

A file is whole or absent, and stays as long as the run or one of its checkpoints may ask for it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from spiral.api.errors import RunError
from spiral.api.records import PolicyId
from spiral.runs.files import make_directory, num_bytes, replace_file

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
"""As safetensors names what weights are."""


def write(directory: Path, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Keep the weights of `step`, each read once and in their order; where they are gathered as they are read, none has
    to be in memory with another."""
    make_directory(directory)
    layout: Mapping[str, torch.Tensor] = getattr(weights, "layout", weights)
    replace_file(_path(directory, step), lambda path: _save(path, weights, layout), num_bytes(layout))


def read(directory: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of `step`. Raises RunError if they are not there or damaged."""
    path = _path(directory, step)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"snapshot {path} of the run's pool cannot be read ({type(error).__name__}); put it back, or start again"
        ) from error


def prune(directory: Path, learner: PolicyId, steps: Iterable[int], checkpoints: Iterable[Path]) -> list[Path]:
    """Delete the files of all snapshots of a learner that neither the pool, with `steps`, nor a checkpoint would ask
    for.

    Returns the checkpoints that cannot be read: no run goes on from them, so they ask for nothing.
    """
    wanted, damaged = {*steps}, []
    for checkpoint in checkpoints:  # a resume or a rollback to it would load them
        try:
            record = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
            wanted |= {*record["plugins"].get("pool", {}).get("snapshots", {}).get(learner, [])}
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged.append(checkpoint)
    for path in directory.glob("step-*.safetensors"):
        step = path.stem.removeprefix("step-")
        if step.isdecimal() and int(step) not in wanted:
            path.unlink(missing_ok=True)
    return damaged


def _save(path: Path, weights: Mapping[str, torch.Tensor], layout: Mapping[str, torch.Tensor]) -> None:
    """A file of safetensors: the length of its header, the header, and the tensors one after another. Its own
    `save_file` takes them all at once. `layout`: their shapes and types."""
    header, end = {}, 0
    for name, tensor in layout.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for weight in weights.values():
            file.write(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:06d}.safetensors"
