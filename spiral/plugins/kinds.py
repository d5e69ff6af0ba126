"""The kinds of plug-in, one row each; registration, lookup, validation and the docs iterate over these rows.

A new kind is a row here, a Protocol and a hook in `spiral.api`, a field of the schema where a config names it, and a
check in `spiral.testing.plugins`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from spiral.config.schema import Config, PluginConfig


@dataclass(frozen=True)
class Kind:
    """One kind of plug-in."""

    name: str
    """As error texts and `spiral plugins` call it."""
    hook: str
    """The hook that registers it."""
    config_keys: tuple[str, ...] = ()
    """Where a config names plug-ins of this kind: one, a list of them, or none."""
    num_core_args: int = 0
    """How many leading arguments of a factory the core fills; the config fills the rest."""


KINDS = (
    Kind("game", "register_games", ("games",)),
    Kind("bot", "register_bots"),
    Kind("opponents", "register_opponents", ("opponents", "health.fallback")),
    Kind("curriculum", "register_curricula", ("curriculum",), num_core_args=1),
    Kind("reward", "register_rewards", ("rewards",)),
    Kind("advantage", "register_advantages", ("advantage",)),
    Kind("model", "register_models", ("model",)),
    Kind("engine", "register_engines", ("engine",), num_core_args=2),
    Kind("learner", "register_learners", ("learner.method",), num_core_args=1),
    Kind("prompt", "register_prompts", ("prompt",), num_core_args=1),
    Kind("benchmark", "register_benchmarks", ("evaluate.tasks",)),
    Kind("logger", "register_loggers", ("loggers",), num_core_args=1),
)

BY_NAME = {kind.name: kind for kind in KINDS}


def named_in(config: Config) -> Iterator[tuple[Kind, PluginConfig]]:
    """Every plug-in that a config names, with its kind."""
    for kind in KINDS:
        for key in kind.config_keys:
            value: Any = reduce(getattr, key.split("."), config)
            plugins: list[PluginConfig] = value if isinstance(value, list) else [value] if value is not None else []
            yield from ((kind, plugin) for plugin in plugins)
