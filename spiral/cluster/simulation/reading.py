"""A cluster to simulate, as a YAML file says it: sizes, rates, and how long games are."""

from __future__ import annotations

import dataclasses
import math
import random
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spiral.api.errors import ConfigError
from spiral.cluster.simulation.cluster import DrawGame, LearnerRates, Setting
from spiral.cluster.simulation.engines import EngineRates
from spiral.config.annotations import type_mismatch
from spiral.runs.directory import RunDir


@dataclass(frozen=True)
class Lengths:
    """How long something is, in tokens: one of `values` at random, or else from a log-normal distribution."""

    median: float = 0.0
    sigma: float = 0.0
    """Of the logarithm; 0 is always the median, 1 has a tail of which a tenth is above 3.6 times the median."""
    most: int = 1 << 40
    """Longer ones are cut to this."""
    values: list[int] = field(default_factory=list)

    def draw(self, rng: random.Random) -> int:
        if self.values:
            return rng.choice(self.values)
        if self.median <= 0:
            return 0
        return max(1, min(self.most, round(rng.lognormvariate(math.log(self.median), self.sigma))))


@dataclass(frozen=True)
class Cluster:
    """A file for `spiral simulate`."""

    engines: list[int]
    """Numbers of engines, each simulated."""
    games: int
    """Of a step, for all engines together."""
    engine: EngineRates
    learner: LearnerRates
    reply_tokens: Lengths = field(default_factory=Lengths)
    """Of all replies of a game together."""
    prompt_tokens: Lengths = field(default_factory=Lengths)
    """Of a game's prompts, those that no cache has."""
    run: str = ""
    """A run's directory: the games that it kept, instead of `reply_tokens`."""
    staleness: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Bounds, each simulated."""
    steps: int = 20
    window: int = 1024
    """Games that an engine has at once, at most."""
    games_per_engine: bool = False
    """Whether `games` is of each engine."""
    report_s: float = 0.03
    """Until a game that ended is known, and another given out in its place."""

    def settings(self) -> list[Setting]:
        """Each number of engines with each bound."""
        return [
            Setting(
                num, bound, self.games * (num if self.games_per_engine else 1), self.steps, self.window, self.engine,
                self.learner, self.report_s,
            )
            for num in self.engines
            for bound in self.staleness
        ]  # fmt: skip

    def draw(self) -> DrawGame:
        """Draws the tokens of a game. Raises ConfigError for a run without games."""
        if self.run:
            played = run_lengths(Path(self.run))
            return lambda rng: (self.prompt_tokens.draw(rng), rng.choice(played))
        return lambda rng: (self.prompt_tokens.draw(rng), self.reply_tokens.draw(rng))


def run_lengths(path: Path) -> list[int]:
    """Reply tokens of each game that a run kept. Raises ConfigError for a directory without any."""
    found = []
    try:
        if not (path / "episodes.jsonl").is_file():
            raise FileNotFoundError("it has no episodes.jsonl")
        for row in RunDir(path).episodes():
            if tokens := sum(len(turn["token_logprobs"]) for turn in row["turns"]):
                found.append(tokens)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"run: {path} has no games that can be read ({error}); give a run's directory") from error
    if not found:
        raise ConfigError(f"run: {path} kept no game of a policy with weights; give one that did (checkpoint.episodes)")
    return found


def read_cluster(path: Path) -> Cluster:
    """The cluster of a file. Raises ConfigError with what is wrong in it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a YAML file, see docs/scaling.md") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML ({(str(error).splitlines() or [''])[0]}); see docs/scaling.md") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} holds no keys; see docs/scaling.md for one that can be simulated")
    cluster: Cluster = _filled(Cluster, tree, "", str(path))
    _check(cluster, str(path))
    return cluster


def _filled(kind: Any, tree: Mapping[str, Any], key: str, path: str) -> Any:
    """A dataclass from a mapping. Raises ConfigError with what is there and what may be."""
    hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    if unknown := [str(name) for name in tree if name not in fields]:
        raise ConfigError(f"{path}: {key}{unknown[0]} is no key; there are: {', '.join(key + name for name in fields)}")
    values = {}
    for name, value in tree.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            values[name] = _filled(hint, value, f"{key}{name}.", path)
        elif reason := _wrong(value, hint):
            raise ConfigError(f"{path}: {key}{name} {reason}")
        else:
            values[name] = value
    required = [
        f.name for f in fields.values()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]  # fmt: skip
    if missing := [name for name in required if name not in values]:
        raise ConfigError(f"{path}: {key}{missing[0]} is missing; see docs/scaling.md")
    return kind(**values)


def _wrong(value: Any, hint: Any) -> str | None:
    if dataclasses.is_dataclass(hint):
        return f"is {value!r}, not keys with values"
    if typing.get_origin(hint) is list and isinstance(value, Sequence) and not isinstance(value, str):
        return next((reason for one in value if (reason := type_mismatch(one, typing.get_args(hint)[0]))), None)
    return type_mismatch(value, hint)


def _check(cluster: Cluster, path: str) -> None:
    low = [("engines", cluster.engines, 1), ("staleness", cluster.staleness, 0), ("steps", [cluster.steps], 3)]
    low += [("games", [cluster.games], 1), ("window", [cluster.window], 1)]
    for name, values, least in low:
        if not values or min(values) < least:
            raise ConfigError(f"{path}: {name} is {values}, and must be at least {least}")
    rates = {**dataclasses.asdict(cluster.engine), **dataclasses.asdict(cluster.learner), "report_s": cluster.report_s}
    for name, value in rates.items():
        if not 0 <= value < math.inf:
            raise ConfigError(f"{path}: {name} is {value}, and must be a number of seconds, 0 or more")
    if cluster.engine.pass_s + cluster.engine.text_s <= 0:
        raise ConfigError(f"{path}: engine.pass_s and engine.text_s are 0, so no token would take time; measure one")
    if not cluster.run and not cluster.reply_tokens.values and cluster.reply_tokens.median <= 0:
        raise ConfigError(f"{path}: reply_tokens says nothing; give its median, values, or a run's directory as run")
