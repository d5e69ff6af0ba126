"""Tensors of a learner that the processes of a run hold in parts: each process writes its own, and any number of
processes, or one alone, reads what it needs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor import empty as empty_in_parts

_GROUP, _MOMENTS = "tensors", "optimizer"
"""First parts of the names that tensors are stored by: tensors/GROUP/NAME and optimizer/PARAMETER/NAME."""


def mesh_of(state: Mapping[str, Any]) -> DeviceMesh | None:
    """The processes that hold parts of the weights; None where each has whole ones."""
    for weights in state[_GROUP].values():
        for weight in weights.values():
            if isinstance(weight, DTensor):
                return weight.device_mesh
    return None


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the parts of this process; all processes call it, and it returns when all have written."""
    torch.distributed.barrier()  # the main process makes the folder around it
    try:
        save(_flat(state), checkpoint_id=folder)
    except CheckpointException as error:
        # Of one process or several: the first process's own error says what is wrong.
        raise error.failures[min(error.failures)][0] from error


def read(folder: Path, mesh: DeviceMesh | None, group: str | None = None) -> dict[str, Any]:
    """The tensors and the optimiser's state that `write` was given, in parts over `mesh` or whole; of one `group` alone
    where that is given."""
    stored = FileSystemReader(folder).read_metadata().state_dict_metadata
    wanted = {
        name: _room(entry, mesh)
        for name, entry in stored.items()
        if isinstance(entry, TensorStorageMetadata) and (group is None or name.startswith(f"{_GROUP}/{group}/"))
    }
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "torch.distributed is disabled"
        )  # said of a process alone, which is asked for
        load(wanted, checkpoint_id=folder, no_dist=mesh is None)
    tensors: dict[str, dict[str, Tensor]] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in wanted.items():
        kind, owner, own_name = name.split("/", 2)
        if kind == _GROUP:
            tensors.setdefault(owner, {})[own_name] = tensor
        else:
            moments.setdefault(int(owner), {})[own_name] = tensor
    return {_GROUP: tensors, _MOMENTS: {"state": moments}}


def _flat(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by the names that they are stored by; the optimiser's settings are the config's, and not stored."""
    flat = {f"{_GROUP}/{group}/{n}": w for group, weights in state[_GROUP].items() for n, w in weights.items()}
    for index, moments in state[_MOMENTS]["state"].items():
        flat |= {f"{_MOMENTS}/{index}/{name}": value for name, value in moments.items()}
    return flat


def _room(entry: TensorStorageMetadata, mesh: DeviceMesh | None) -> Tensor:
    """An empty tensor to read a stored one into; in parts as FSDP2 holds a parameter, but for single numbers."""
    if mesh is None or not entry.size:
        return torch.empty(entry.size, dtype=entry.properties.dtype)
    return empty_in_parts(entry.size, dtype=entry.properties.dtype, device_mesh=mesh, placements=[Shard(0)])
