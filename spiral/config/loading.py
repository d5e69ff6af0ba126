"""Reads the configuration of a run; the only file that imports OmegaConf.

Layers, each over the one before: `defaults.yaml` (the demo), the user's file, `key=value` overrides. Every fault of
every layer is reported at once, before a plug-in is made or a model loads.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spiral.api.errors import ConfigError
from spiral.config.schema import Config, PluginConfig
from spiral.config.validation import validate

DEFAULTS = Path(__file__).with_name("defaults.yaml")
"""The one file of the core that names first-party plug-ins: the demo that `spiral train` runs by itself."""

_KEEP = ("args", "policy")
"""Keys of named entries whose references to the environment are resolved in use: where secrets stand."""
_BETWEEN_ARGUMENTS = re.compile(r",(?=[A-Za-z_][\w.]*=)" + r'(?=(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*$)', re.S)
"""A comma before `key=` and outside of double quotes: a value may hold commas."""

Override = str | Mapping[str, Any]
"""`key=value` as the command line writes it, or keys and values, nested or dotted."""


def load(path: Path | None = None, overrides: Sequence[Override] = ()) -> Config:
    """Read a run's configuration. Raises ConfigError with every problem found."""
    config, problems = read(path, overrides)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def read(path: Path | None = None, overrides: Sequence[Override] = ()) -> tuple[Config, list[str]]:
    """A run's configuration and every problem found, a sentence each; what is faulty keeps its default."""
    problems: list[str] = []
    tree = _read(DEFAULTS, problems)
    node = OmegaConf.structured(Config)
    _fill(node, Config, tree, "", problems)
    if path is not None:
        tree = _merge(tree, _read(path, problems))
    for override in overrides:
        tree = _merge(tree, _override(override, problems))
    _fill(node, Config, tree, "", problems)
    try:
        config = OmegaConf.to_object(node)
    except OmegaConfBaseException as error:  # a reference to a key that is not there, or that does not fit
        problems.append(f"{error.full_key} cannot be resolved: {str(error).splitlines()[0]}")
        return read(overrides=[])[0], problems
    assert isinstance(config, Config)
    return config, problems + validate(config)


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
    return _long_form({str(k): v for k, v in tree.items()})


def _override(override: Override, problems: list[str]) -> dict[str, Any]:
    if isinstance(override, str):
        return _override_text(override, problems)
    tree: dict[str, Any] = {}
    for key, value in override.items():
        nested = value
        for part in reversed(str(key).split(".")):
            nested = {part: nested}
        # Written out before it is merged: `advantage.args.k` after `advantage: rae` belongs to that name.
        tree = _merge(tree, _long_form(nested))
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
    return _long_form({str(k): v for k, v in tree.items()})


def _long_form(tree: Mapping[str, Any], schema: type = Config) -> dict[str, Any]:
    """Short forms written out: a name alone becomes {name: ...}, a single entry of a list becomes a list of one."""
    long = dict(tree)
    for key, field_type in _types(schema).items():
        if key not in long:
            continue
        value, entry = long[key], _entry(field_type)
        if entry is None:
            nested = dataclasses.is_dataclass(field_type) and isinstance(value, Mapping)
            long[key] = _long_form(value, field_type) if nested else value
        elif typing.get_origin(field_type) is list:
            several = [value] if isinstance(value, str) or _is_entry(value, entry) else value
            several = list(several) if isinstance(several, tuple) else several
            long[key] = [_named(item, entry) for item in several] if isinstance(several, list) else several
        else:
            long[key] = _named(value, entry)
    return long


def _named(value: Any, entry: type) -> Any:
    """An entry that is written as its name alone, in full."""
    return {_key_of(entry): value} if isinstance(value, str) else value


def _is_entry(value: Any, entry: type) -> bool:
    return isinstance(value, Mapping) and _key_of(entry) in value


def _key_of(entry: type) -> str:
    """The key that a name alone stands for: the first one, which has no default."""
    return dataclasses.fields(entry)[0].name


@functools.cache
def _types(schema: type) -> dict[str, Any]:
    """Field -> its type."""
    return typing.get_type_hints(schema)


def _entry(field_type: Any) -> type | None:
    """The dataclass of a field that holds named things, one or a list of them; None for any other field."""
    inside = [t for t in (field_type, *typing.get_args(field_type)) if dataclasses.is_dataclass(t)]
    return next((t for t in inside if isinstance(t, type) and _has_no_default(dataclasses.fields(t)[0])), None)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _merge(base: Any, layer: Any) -> Any:
    """`layer` over `base`: mappings key by key, `list.0` by position, anything else replaced.

    Another plug-in name replaces the whole entry: the arguments of the old one must not reach the new one.
    """
    if isinstance(base, list) and isinstance(layer, Mapping) and layer and all(str(k).isdigit() for k in layer):
        indexed = {int(k): v for k, v in layer.items()}
        if max(indexed) >= len(base):
            return layer  # there is no such entry: reported when it is filled in
        return [_merge(item, indexed[i]) if i in indexed else item for i, item in enumerate(base)]
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        return layer
    if "name" in base and layer.get("name", base["name"]) != base["name"]:
        return dict(layer)
    return {**base, **{k: _merge(base[k], v) if k in base else v for k, v in layer.items()}}


def _fill(node: Any, schema: type, tree: Mapping[str, Any], prefix: str, problems: list[str]) -> None:
    """Assign leaf by leaf, so that every problem is found and each names its key."""
    field_types = _types(schema)
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key not in field_types:
            near = difflib.get_close_matches(key, field_types, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; known keys: {', '.join(sorted(field_types))}"
            problems.append(f"unknown key '{path}'{hint}")
            continue
        entry = _entry(field_types[key])
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
    return [OmegaConf.merge(schema, _kept(_checked(_named(item, entry), entry))) for item in value]


def _kept(item: Mapping[str, Any]) -> dict[str, Any]:
    """A named entry, in which arguments keep their references to the environment: a secret there is never written."""
    return {key: _literal(value) if key in _KEEP else _plain(resolved(value)) for key, value in item.items()}


def _checked(item: Any, entry: type) -> Any:
    if not _is_entry(item, entry) or not item[_key_of(entry)]:
        raise ValueError(f"write a name, or a mapping with a {_key_of(entry)}")
    return item
