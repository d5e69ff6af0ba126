"""How the configuration of a run is read; the only file that touches OmegaConf.

Layers, each over the one before: `defaults.yaml` (the demo), the user's file, `key=value` overrides. Every fault of
every layer is reported at once, before a plug-in is made or a model loads.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spiral.api.errors import ConfigError
from spiral.config.schema import (
    CheckpointConfig,
    Config,
    EvaluateConfig,
    GameConfig,
    HealthConfig,
    LearnerConfig,
    MemberConfig,
    PluginConfig,
    PoolConfig,
    RolloutConfig,
    WarmStartConfig,
    unsound,
)

DEFAULTS = Path(__file__).with_name("defaults.yaml")
"""The one file of the core that names first-party plug-ins: the demo that `spiral train` runs by itself."""

SINGLE = ("curriculum", "opponents", "advantage", "model", "engine", "prompt")
SEVERAL = ("games", "rewards", "loggers")


_GROUPS: dict[str, type] = {
    "pool": PoolConfig,
    "health": HealthConfig,
    "rollout": RolloutConfig,
    "learner": LearnerConfig,
    "warm_start": WarmStartConfig,
    "evaluate": EvaluateConfig,
    "checkpoint": CheckpointConfig,
}


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a run's configuration. Raises ConfigError with every fault found."""
    config, faults = read(path, overrides)
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def read(path: Path | None = None, overrides: Sequence[str] = ()) -> tuple[Config, list[str]]:
    """A run's configuration and every fault found, a sentence each; what is faulty keeps its default."""
    faults: list[str] = []
    tree = _read(DEFAULTS, faults)
    node = OmegaConf.structured(Config)
    _fill(node, Config, tree, "", faults)
    if path is not None:
        tree = _merge(tree, _read(path, faults))
    for override in overrides:
        tree = _merge(tree, _override(override, faults))
    _fill(node, Config, tree, "", faults)
    config = OmegaConf.to_object(node)
    assert isinstance(config, Config)
    return config, faults + unsound(config)


def dump(config: Config) -> str:
    """The configuration as YAML that `load` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))


def parse_plugin(text: str) -> PluginConfig:
    """`name` or `name:key=value,key=value`, as the command line writes a bot."""
    name, _, rest = text.partition(":")
    parts = [part for part in re.split(r",(?=[A-Za-z_][\w.]*=)", rest) if part]  # a value may hold commas
    try:
        args = OmegaConf.to_container(OmegaConf.from_dotlist(parts))
    except (OmegaConfBaseException, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{text}' cannot be read ({reason}); write NAME or NAME:key=value,key=value") from error
    assert isinstance(args, dict)
    return PluginConfig(name, {str(key): value for key, value in args.items()})


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        faults.append(f"config {path} cannot be read ({error.strerror}); give the path of a YAML file")
        return {}
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]
        faults.append(f"config {path} is not valid YAML: {where}")
        return {}
    if not isinstance(tree, dict):
        faults.append(f"config {path} holds a {type(tree).__name__}, not keys and values")
        return {}
    return _long_form({str(k): v for k, v in tree.items()})


def _override(text: str, faults: list[str]) -> dict[str, Any]:
    # One at a time: from_dotlist loses `advantage=x` when `advantage.args.k=1` follows in the same list.
    if "=" not in text:
        faults.append(f"override '{text}' is not key=value")
        return {}
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (OmegaConfBaseException, YAMLError) as error:
        faults.append(f"override '{text}': {str(error).splitlines()[0]}")
        return {}
    assert isinstance(tree, dict)
    return _long_form({str(k): v for k, v in tree.items()})


def _long_form(tree: dict[str, Any]) -> dict[str, Any]:
    """Names alone become {name: ...}; a single game, reward or logger becomes a list of one."""
    tree = dict(tree)
    for key in (*SINGLE, *SEVERAL):
        if key not in tree:
            continue
        value = tree[key]
        if key in SEVERAL:
            if isinstance(value, str) or (isinstance(value, dict) and "name" in value):
                value = [value]
            if isinstance(value, list):
                value = [{"name": v} if isinstance(v, str) else v for v in value]
        elif isinstance(value, str):
            value = {"name": value}
        tree[key] = value
    if isinstance(pool := tree.get("pool"), dict) and "members" in pool:
        given = pool["members"]
        listed = given if isinstance(given, list) else [given]
        tree["pool"] = {**pool, "members": [{"policy": m} if isinstance(m, str) else m for m in listed]}
    if isinstance(health := tree.get("health"), dict) and isinstance(health.get("widen"), str):
        tree["health"] = {**health, "widen": {"name": health["widen"]}}
    return tree


def _merge(base: Any, layer: Any) -> Any:
    """`layer` over `base`: mappings key by key, `list.0` by position, anything else replaced.

    Another plug-in name replaces the whole entry: the arguments of the old one must not reach the new one.
    """
    if isinstance(base, list) and isinstance(layer, Mapping) and all(str(k).isdigit() for k in layer):
        indexed = {int(k): v for k, v in layer.items()}
        if max(indexed) >= len(base):
            return layer  # there is no such entry: reported when it is filled in
        return [_merge(item, indexed[i]) if i in indexed else item for i, item in enumerate(base)]
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        return layer
    if "name" in base and layer.get("name", base["name"]) != base["name"]:
        return dict(layer)
    return {**base, **{k: _merge(base[k], v) if k in base else v for k, v in layer.items()}}


def _fill(node: Any, schema: type, tree: Mapping[str, Any], prefix: str, faults: list[str]) -> None:
    """Assign leaf by leaf, so that every fault is found and each names its key."""
    names = {f.name: f for f in dataclasses.fields(schema)}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; known keys: {', '.join(sorted(names))}"
            faults.append(f"unknown key '{path}'{hint}")
            continue
        nested = _GROUPS.get(key) if schema is Config else None
        if nested is not None:
            if isinstance(value, Mapping):
                _fill(node[key], nested, value, f"{path}.", faults)
            else:
                faults.append(f"{path} is {value!r}, not a group of keys")
            continue
        try:
            with flag_override(node, "readonly", False):  # frozen dataclasses make read-only nodes
                if not prefix and key in (*SINGLE, *SEVERAL):
                    node[key] = _plugin_nodes(key, value)
                elif path == "health.widen":
                    node[key] = None if value is None else _plugin_nodes(key, value)
                elif path == "pool.members" and not all(isinstance(i, Mapping) and i.get("policy") for i in value):
                    raise ValueError("each member is a name, or a mapping with a policy, such as {policy: random}")
                elif path == "pool.members":
                    node[key] = [OmegaConf.merge(OmegaConf.structured(MemberConfig), item) for item in value]
                else:
                    OmegaConf.update(node, key, value)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            faults.append(f"{path} is {value!r}: {str(error).splitlines()[0]}")


def _plugin_nodes(key: str, value: Any) -> Any:
    """Plain mappings of plug-ins as typed nodes, so that a wrong key inside one is found here."""
    schema = OmegaConf.structured(GameConfig if key == "games" else PluginConfig)
    if key not in SEVERAL:
        return OmegaConf.merge(schema, value)
    return [OmegaConf.merge(schema, item) for item in value]
