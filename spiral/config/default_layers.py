"""The defaults of a run: the demo's, and those that follow from what a config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spiral.config.layers import Layer, merged
from spiral.config.pretrained import FindModel, FoundModel, by_method, by_size

_HERE = Path(__file__).parent

DEMO = _HERE / "defaults.yaml"
"""The one file of the core that names first-party plug-ins: the demo that `spiral train` runs by itself."""
PRETRAINED = _HERE / "pretrained.yaml"
"""Where the model is pretrained."""
TASKS = _HERE / "tasks.yaml"
"""Where all games are tasks."""
TASKS_RANDOM_WEIGHTS = _HERE / "tasks_random_weights.yaml"
"""Over those, where the model is not pretrained."""
SUPERVISED = _HERE / "supervised.yaml"
"""Where examples or text are named to learn from."""
TEXT = _HERE / "text.yaml"
"""Over those, where the examples are text."""
TEXT_RANDOM_WEIGHTS = _HERE / "text_random_weights.yaml"
"""Where text is learned from, and the model is not pretrained."""

_TASK = "tasks/"
"""The name of a game that asks the questions of a benchmark begins with it."""

Read = Callable[[Path], dict[str, Any]]


def with_defaults(said: Sequence[Layer], find_model: FindModel, read: Read) -> list[Layer]:
    """All layers of a configuration: the defaults, then `said`, what the user says. A model that is named by its folder
    gets its plug-in's name there."""
    demo = Layer("defaults", read(DEMO))
    config = merged([demo, *said])
    from_text = _names(config, "text", "paths")
    supervised = from_text or _names(config, "examples", "path")
    tasks = not supervised and _asks_tasks(config)
    model, found = config.get("model"), _find(config, find_model)
    if found is not None and isinstance(model, Mapping) and found.name != model["name"]:
        said = [_with_model(layer, model["name"], found) for layer in said]
    layers = [demo]
    if found is not None and found.num_parameters is not None:
        sized = by_size(found.num_parameters, supervised)
        layers += [Layer("pretrained defaults", read(PRETRAINED)), Layer("the model's size", sized)]
    random_weights = found is None or found.num_parameters is None
    if tasks:
        layers.append(Layer("task defaults", read(TASKS)))
        if random_weights:
            layers.append(Layer("task defaults", read(TASKS_RANDOM_WEIGHTS)))
    if from_text and random_weights:
        layers.append(Layer("text defaults", read(TEXT_RANDOM_WEIGHTS)))
    if found is not None and found.lr_factor != 1:
        own = by_method(merged(layers)["learner"]["lr"], found.lr_factor)
        layers.append(Layer("the learner's method", own))
    if supervised:
        layers.append(Layer("supervised defaults", read(SUPERVISED)))
    if from_text:
        layers.append(Layer("text defaults", read(TEXT)))
    return [*layers, *said]


def _find(config: Mapping[str, Any], find_model: FindModel) -> FoundModel | None:
    model, learner = config.get("model"), config.get("learner")
    method = learner.get("method") if isinstance(learner, Mapping) else None
    return find_model(model, method if isinstance(method, Mapping) else {}) if isinstance(model, Mapping) else None


def _names(config: Mapping[str, Any], group: str, key: str) -> bool:
    """Whether a group of a config names something to learn from."""
    found = config.get(group)
    return isinstance(found, Mapping) and bool(found.get(key))


def _asks_tasks(config: Mapping[str, Any]) -> bool:
    games = config.get("games")
    entries = games if isinstance(games, list) else []
    names = [game.get("name") if isinstance(game, Mapping) else None for game in entries]
    return bool(names) and all(isinstance(name, str) and name.startswith(_TASK) for name in names)


def _with_model(layer: Layer, written: str, found: FoundModel) -> Layer:
    """A layer in which a model that was named by its folder has the plug-in's name, and the folder as an argument."""
    model = layer.tree.get("model")
    if not isinstance(model, Mapping) or model.get("name") != written:
        return layer
    args = {**found.args, **(model.get("args") or {})}
    return Layer(layer.source, {**layer.tree, "model": {**model, "name": found.name, "args": args}})
