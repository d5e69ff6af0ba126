"""Which installed model plug-in reads a folder, and whether what it reads was trained on text.

A model plug-in says so itself: its factory may have a member `num_pretrained(**args) -> int | None`, the number of
parameters of the language model that these arguments name; None for random weights, or what knows nothing but games.
A learner's may have a member `lr_factor`, what the default learning rate of full training is multiplied with.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiral.api.errors import SpiralError
from spiral.config.loading import resolved
from spiral.config.pretrained import FindModel, FoundModel
from spiral.plugins.registry import Plugins, Registration


def find_model(plugins: Plugins) -> FindModel:
    """For `spiral.config.loading.read`: looks the entries `model` and `learner.method` up among what is installed."""

    def find(entry: Mapping[str, Any], method: Mapping[str, Any]) -> FoundModel | None:
        name, args = entry.get("name"), entry.get("args") or {}
        if not isinstance(name, str) or not isinstance(args, Mapping):
            return None
        from_name: dict[str, Any] = {}
        if not _is_registered("model", name, plugins) and _names_folder(name) and (reader := folder_reader(plugins)):
            name, from_name = reader.name, {"path": str(Path(name).expanduser())}
        args = {**from_name, **args}
        if plugins.problem("model", name, args):
            return None
        ask = getattr(plugins.find("model", name).factory, "num_pretrained", None)
        size = None if ask is None else ask(**resolved(args))
        return FoundModel(name, from_name, size, _lr_factor(method.get("name"), plugins))

    return find


def _lr_factor(learner: object, plugins: Plugins) -> float:
    """That of a learner by name; 1 for one that has none, or is not installed."""
    if not isinstance(learner, str) or not _is_registered("learner", learner, plugins):
        return 1.0
    return float(getattr(plugins.find("learner", learner).factory, "lr_factor", 1.0))


def folder_reader(plugins: Plugins) -> Registration | None:
    """The installed model plug-in that reads a folder; None without one."""
    return next((r for r in plugins.registrations() if r.kind == "model" and takes_path(r)), None)


def takes_path(model: Registration) -> bool:
    """Whether a model plug-in reads the folder that its argument `path` names."""
    return "path" in inspect.signature(model.factory).parameters


def _is_registered(kind: str, name: str, plugins: Plugins) -> bool:
    try:
        plugins.find(kind, name)
    except SpiralError:
        return False
    return True


def _names_folder(name: str) -> bool:
    """Whether a model's name is that of a folder; with a separator in it too where there is none, so that the plug-in
    says what is missing."""
    return Path(name).expanduser().is_dir() or os.sep in name
