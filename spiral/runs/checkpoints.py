"""Checkpoints: written beside and renamed into place, so that each one that has its name is whole.

step-000100/model/            the averaged weights, or else the live ones, config and tokenizer, as transformers
                              saves them, or peft where they are an adapter's
step-000100/NAME.safetensors  each other group of tensors in the learner's state, such as live: nothing lies there twice
step-000100/optimizer.pt  state.json

Where the processes of a run hold the learner's state in parts, each writes its own, and any number of them reads it:
step-000100/sharded/          all tensors of the learner's state, as torch.distributed.checkpoint writes them

Each policy that is trained beside the main one has a folder of the same files, but for what the run keeps:
step-000100/learners/NAME/
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from spiral.api.errors import RunError
from spiral.api.training import Learner, Stateful
from spiral.runs import sharded
from spiral.runs.directory import LEARNERS, RunDir, step_of
from spiral.runs.files import num_bytes, recover_directory, remove_directory, replace_directory, unfinished


def save(
    run: RunDir,
    step: int,
    learner: Learner,
    tokenizer: Any,
    plugins: Mapping[str, object],
    is_main: bool = True,
    others: Mapping[str, Learner] = MappingProxyType({}),
) -> Path:
    """Write the checkpoint of `step`, and return its path. All processes of a run call it; the main one writes, and
    where the learner's state is sharded the others give and write their parts.

    `others`: the learners of the policies that are trained beside the main one, by name."""
    path = run.checkpoints / f"step-{step:06d}"
    learners = [(Path(), learner), *((Path(LEARNERS) / name, other) for name, other in others.items())]
    states = [one.state() for _, one in learners]
    if not is_main:
        for (place, one), state in zip(learners, states, strict=True):
            if sharded.mesh_of(state) is not None:
                _write_parts(unfinished(path) / place, one, state)
        return path

    def write(folder: Path) -> None:
        kept = {name: plugin.state for name, plugin in plugins.items() if isinstance(plugin, Stateful)}
        for (place, one), state in zip(learners, states, strict=True):
            _write_learner(folder / place, one, state, tokenizer, {} if place.name else {"step": step, "plugins": kept})

    replace_directory(path, write, sum(map(num_bytes, states)))
    return path


def save_learner(path: Path, learner: Learner, tokenizer: Any, is_main: bool = True) -> None:
    """Write what one learner needs to go on, such as from its first weights. All processes of a run call it."""
    state = learner.state()
    if is_main:
        replace_directory(path, lambda folder: _write_learner(folder, learner, state, tokenizer, {}), num_bytes(state))
    elif sharded.mesh_of(state) is not None:
        _write_parts(unfinished(path), learner, state)


def _write_learner(
    folder: Path, learner: Learner, state: Mapping[str, Any], tokenizer: Any, beside: Mapping[str, Any]
) -> None:
    """A learner's files; `beside`: what its record holds of the run."""
    in_parts = sharded.mesh_of(state) is not None
    folder.mkdir(parents=True, exist_ok=True)
    with _no_progress_bar():
        if in_parts:
            _write_parts(folder, learner, state)
        else:
            learner.save_model(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    record = {
        "learner": state["values"],
        "tensors": [*state["tensors"]],
        "sharded": in_parts,
        **({} if in_parts else _write_whole(folder, state)),
        **beside,
    }
    (folder / "state.json").write_text(json.dumps(record), encoding="utf-8")


def _write_whole(folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """The files of tensors; what the record tells of those that the model's own file holds already."""
    groups, evaluated = state["tensors"], _evaluated(state["tensors"])
    saved_as = _saved_as(folder / "model", groups[evaluated])
    in_model = evaluated if saved_as is not None else None
    for name, weights in groups.items():
        if name != in_model:
            save_file(weights, folder / f"{name}.safetensors")
    with (folder / "optimizer.pt").open("wb") as file:  # of a file that it opens itself, torch hides the error
        torch.save(state["optimizer"], file)
    renamed = {own: saved for own, saved in (saved_as or {}).items() if own != saved}
    return {"in_model": in_model, "saved_as": renamed}


def _write_parts(folder: Path, learner: Learner, state: Mapping[str, Any]) -> None:
    """This process's part of a checkpoint; returns when all processes have written theirs."""
    sharded.write(folder / "sharded", state)
    learner.save_model(folder / "model")


def recover(run: RunDir) -> None:
    """Give back its name to a checkpoint that was being replaced when the process was killed, and sweep away what it
    had not finished: that may be what fills the disk, and a resumed run writes before its next checkpoint."""
    for path in run.checkpoints.glob(".step-*.old"):
        recover_directory(run.checkpoints / path.name.removeprefix(".").removesuffix(".old"))
    for left_over in run.checkpoints.glob(".step-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def thin_out(run: RunDir, keep: int, spare: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints (0: none is deleted) and that of step `spare`."""
    paths = run.checkpoint_paths()
    drop([path for path in paths[:-keep] if step_of(path) != spare] if keep else [])


def drop(paths: Sequence[Path]) -> None:
    """Delete checkpoints, in this order."""
    for path in paths:
        remove_directory(path)


def restore(
    path: Path, learner: Learner, plugins: Mapping[str, object], others: Mapping[str, Learner] = MappingProxyType({})
) -> int:
    """Put everything back as `save` found it; the step to go on with. Raises RunError for a damaged checkpoint."""
    record = restore_learner(path, learner)
    for name, other in others.items():
        restore_learner(path / LEARNERS / name, other)
    with _readable(path):
        for name, plugin in plugins.items():
            if isinstance(plugin, Stateful) and name in record["plugins"]:
                plugin.state = record["plugins"][name]
        return int(record["step"])


def restore_learner(path: Path, learner: Learner) -> Mapping[str, Any]:
    """Put one learner back; its record. Raises RunError for damaged files."""
    with _readable(path):
        record: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if record["sharded"]:
            state = sharded.read(path / "sharded", sharded.mesh_of(learner.state()))
        else:
            state = {
                "tensors": {name: _group(path, name, record) for name in record["tensors"]},
                "optimizer": torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
            }
        learner.load_state({**state, "values": record["learner"]})
        return record


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A block in which a checkpoint is read; what is wrong with its files is raised as RunError."""
    try:
        yield
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


def evaluated_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights that a checkpoint's policy plays with, by name: the averaged ones, or else the live ones."""
    try:
        record = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return _group(path, _evaluated(record["tensors"]), record)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _evaluated(groups: Collection[str]) -> str:
    """The group of tensors that evaluation uses, and that the learner saves as a model."""
    return "averaged" if "averaged" in groups else "live"


def _saved_as(model: Path, weights: Mapping[str, torch.Tensor]) -> dict[str, str] | None:
    """The name of each of these weights in a saved model that is them bit for bit; None for one that is not.

    transformers stores some models by other names, or in other shapes, than they have in memory. peft leaves out one
    part of a name, that of the adapter, which alone is looked through.
    """
    found: dict[str, str] = {}
    with contextlib.ExitStack() as files:
        saved: dict[str, Any] = {}
        for path in model.glob("*.safetensors"):
            opened = files.enter_context(safe_open(path, framework="pt"))
            saved |= dict.fromkeys(opened.keys(), opened)
        for name, weight in weights.items():
            parts = name.split(".")
            shorter = (".".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts)))
            stored = next((key for key in (name, *shorter) if key in saved), None)
            if stored is None or not torch.equal(weight.detach().cpu(), saved[stored].get_tensor(stored)):
                return None
            found[name] = stored
    return found if {*found.values()} == saved.keys() else None


def _group(path: Path, name: str, record: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A group of tensors of a checkpoint; `record` is its state.json."""
    if record["sharded"]:
        weights: dict[str, torch.Tensor] = sharded.read(path / "sharded", None, name)["tensors"][name]
        return weights
    if name != record["in_model"]:
        return load_file(path / f"{name}.safetensors")
    files = sorted((path / "model").glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{path / 'model'} holds no weights")
    own = {saved: own for own, saved in record["saved_as"].items()}
    return {own.get(key, key): tensor for file in files for key, tensor in load_file(file).items()}


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """One bar a checkpoint would tear the run's own display; whatever the caller had set is set again."""
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _damaged(path: Path, error: Exception) -> RunError:
    reason = (str(error).splitlines() or [""])[0]
    return RunError(
        f"checkpoint {path} cannot be read ({type(error).__name__}: {reason}); delete it to go on from the one before"
    )
