"""Reads the configuration of a run; the only file that imports OmegaConf.

Layers, each over the one before: the defaults that follow from what the config names, the user's file, `key=value`
overrides. Every fault of every layer is reported at once, before a plug-in is made or
a model loads.
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
from spiral.config.default_layers import with_defaults
from spiral.config.layers import Layer, entry_of, is_entry, key_of, long_form, merge, merged, named, types_of
from spiral.config.pretrained import FindModel, find_nothing
from spiral.config.schema import Config, PluginConfig
from spiral.config.trained import problems_of_learners
from spiral.config.validation import validate

_KEEP = ("args", "policy")
"""Keys of named entries whose references to the environment are resolved in use: where secrets stand."""
_BETWEEN_ARGUMENTS = re.compile(r",(?=[A-Za-z_][\w.]*=)" + r'(?=(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*$)', re.S)
"""A comma before `key=` and outside of double quotes: a value may hold commas."""

Override = str | Mapping[str, Any]
"""`key=value` as the command line writes it, or keys and values, nested or dotted."""


def load(path: Path | None = None, overrides: Sequence[Override] = (), find_model: FindModel = find_nothing) -> Config:
    """Read a run's configuration, see `read`. Raises ConfigError with every problem found."""
    config, problems = read(path, overrides, find_model)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def read(
    path: Path | None = None, overrides: Sequence[Override] = (), find_model: FindModel = find_nothing
) -> tuple[Config, list[str]]:
    """A run's configuration and every problem found, a sentence each; what is faulty keeps its default.

    `find_model`: tells what the model is, whose defaults follow it; without it those of the demo hold.
    """
    layers, problems = read_layers(path, overrides, find_model)
    node = OmegaConf.structured(Config)
    _fill(node, Config, layers[0].tree, "", problems)
    _fill(node, Config, merged(layers), "", problems)
    try:
        config = OmegaConf.to_object(node)
    except OmegaConfBaseException as error:  # a reference to a key that is not there, or that does not fit
        problems.append(f"{error.full_key} cannot be resolved: {str(error).splitlines()[0]}")
        return read(overrides=[])[0], problems
    assert isinstance(config, Config)
    return config, [*problems, *validate(config), *problems_of_learners(config)]


def read_layers(
    path: Path | None, overrides: Sequence[Override], find_model: FindModel
) -> tuple[list[Layer], list[str]]:
    """What a configuration is made of, the defaults first, and what cannot be read of it."""
    problems: list[str] = []
    said = [] if path is None else [Layer(str(path), _read(path, problems))]
    said += [Layer("command line", _override(override, problems)) for override in overrides]
    return with_defaults(said, find_model, lambda defaults: _read(defaults, problems)), problems


def dump(config: Config) -> str:
    """The configuration as YAML that `load` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))


def parse_plugin(text: str) -> PluginConfig:
    """`name` or `name:key=value,key=value`, as the command line writes a bot or a game, or its label, `name(...)`."""
    name, _, rest = text.partition(":")
    if as_label := re.fullmatch(r"([^(:]+)\((.*)\)", text, re.S):
        name, rest = as_label.groups()
    parts = [part for part in _BETWEEN_ARGUMENTS.split(rest) if part]
    try:
        args = OmegaConf.to_container(OmegaConf.from_dotlist(parts))
    except (OmegaConfBaseException, YAMLError, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{text}' cannot be read ({reason}); write NAME or NAME:key=value,key=value") from error
    assert isinstance(args, dict)
    return PluginConfig(name, {str(key): value for key, value in args.items()})


class FromEnvironment(str):
    """A text that was read from the environment; what shows or keeps it shows the reference instead."""

    reference: str

    def __new__(cls, value: str, reference: str) -> FromEnvironment:
        text = super().__new__(cls, value)
        text.reference = reference
        return text

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # for copies: what holds it may be copied
        return str(self), self.reference

    def __repr__(self) -> str:
        return repr(self.reference)


def resolved(value: Any) -> Any:
    """`value` with each reference to the environment, `${oc.env:KEY}`, replaced by what stands there now, a text as
    FromEnvironment. Raises ConfigError for one that is not set."""
    if isinstance(value, Mapping):
        return {key: resolved(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(inside) for inside in value]
    if not _is_reference(value):
        return value
    try:
        found = OmegaConf.create({"value": value})["value"]
    except OmegaConfBaseException as error:
        reason, advice = str(error).splitlines()[0], "set the variable, or write ${oc.env:KEY,DEFAULT}"
        raise ConfigError(f"{value} cannot be resolved ({reason}); {advice}") from error
    return FromEnvironment(found, value) if isinstance(found, str) else found


def references(value: Any) -> set[str]:
    """The references to the environment in nested mappings and lists, and in the plug-ins of a config."""
    if isinstance(value, PluginConfig):
        return references(value.args)
    if isinstance(value, Mapping):
        return set().union(*map(references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(references, value))
    return {value} if _is_reference(value) else set()


def as_written(value: Any) -> Any:
    """What `resolved` was given, from what it gave."""
    if isinstance(value, Mapping):
        return {key: as_written(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [as_written(inside) for inside in value]
    return value.reference if isinstance(value, FromEnvironment) else value


def _plain(value: Any) -> Any:
    """`value`, which may be a FromEnvironment, as OmegaConf takes it."""
    return str(value) if isinstance(value, FromEnvironment) else value


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and "${oc.env:" in value


def _literal(value: Any) -> Any:
    """`value` with its references written so that OmegaConf leaves them alone."""
    if isinstance(value, Mapping):
        return {key: _literal(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(inside) for inside in value]
    return value.replace("${", r"\${") if _is_reference(value) else value


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        raw = OmegaConf.to_container(OmegaConf.load(path))  # references to the environment are resolved in use
        tree = OmegaConf.to_container(OmegaConf.create(_literal(raw)), resolve=True)
    except OSError as error:
        problems.append(f"config {path} cannot be read ({error.strerror}); give the path of a YAML file")
        return {}
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]
        problems.append(f"config {path} is not valid YAML: {where}")
        return {}
    if not isinstance(tree, dict):
        problems.append(f"config {path} holds a {type(tree).__name__}, not keys and values")
        return {}
    return long_form({str(k): v for k, v in tree.items()})


def _override(override: Override, problems: list[str]) -> dict[str, Any]:
    if isinstance(override, str):
        return _override_text(override, problems)
    tree: dict[str, Any] = {}
    for key, value in override.items():
        nested = value
        for part in reversed(str(key).split(".")):
            nested = {part: nested}
        # Written out before it is merged: `advantage.args.k` after `advantage: rae` belongs to that name.
        tree = merge(tree, long_form(nested))
    return tree


def _override_text(text: str, problems: list[str]) -> dict[str, Any]:
    # One at a time: from_dotlist loses `advantage=x` when `advantage.args.k=1` follows in the same list.
    if "=" not in text:
        problems.append(f"override '{text}' is not key=value")
        return {}
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (OmegaConfBaseException, YAMLError, UnicodeError) as error:
        problems.append(f"override '{text}': {str(error).splitlines()[0]}")
        return {}
    assert isinstance(tree, dict)
    return long_form({str(k): v for k, v in tree.items()})


def _fill(node: Any, schema: type, tree: Mapping[str, Any], prefix: str, problems: list[str]) -> None:
    """Assign leaf by leaf, so that every problem is found and each names its key."""
    field_types = types_of(schema)
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key not in field_types:
            near = difflib.get_close_matches(key, field_types, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; known keys: {', '.join(sorted(field_types))}"
            problems.append(f"unknown key '{path}'{hint}")
            continue
        entry = entry_of(field_types[key])
        if entry is None and dataclasses.is_dataclass(field_types[key]):
            if isinstance(value, Mapping):
                _fill(node[key], field_types[key], value, f"{path}.", problems)
            else:
                problems.append(f"{path} is {value!r}, not a group of keys")
            continue
        try:
            with flag_override(node, "readonly", False):  # frozen dataclasses make read-only nodes
                if entry is not None and value is not None:
                    node[key] = _entries(value, entry)
                else:
                    OmegaConf.update(node, key, _plain(resolved(value)))
        except (ConfigError, OmegaConfBaseException, ValueError, TypeError) as error:
            problems.append(f"{path} is {value!r}: {str(error).splitlines()[0]}")


def _entries(value: Any, entry: type) -> Any:
    """Plain mappings as typed nodes, so that a wrong key inside one is found here."""
    schema = OmegaConf.structured(entry)
    if not isinstance(value, list):
        return OmegaConf.merge(schema, _kept(_checked(value, entry)))
    return [OmegaConf.merge(schema, _kept(_checked(named(item, entry), entry))) for item in value]


def _kept(item: Mapping[str, Any]) -> dict[str, Any]:
    """A named entry, in which arguments keep their references to the environment: a secret there is never written."""
    return {key: _literal(value) if key in _KEEP else _plain(resolved(value)) for key, value in item.items()}


def _checked(item: Any, entry: type) -> Any:
    if not is_entry(item, entry) or not item[key_of(entry)]:
        raise ValueError(f"write a name, or a mapping with a {key_of(entry)}")
    return item
