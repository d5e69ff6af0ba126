"""Runs and seeds over each other: groups of runs that differ in their seed alone, and each group's mean and spread."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spiral.api.errors import SpiralError
from spiral.config.flat import flat
from spiral.runs import metric_names
from spiral.runs.directory import RunDir

NO_GROUP = ("seed", "loggers")
"""Keys of a config that make no difference to what is measured."""
MAX_VALUE = 40
"""Characters of a value in a group's label."""

Curve = dict[int, float]
"""Step -> value."""


@dataclass(frozen=True)
class ComparedRun:
    """One run: what was asked, and every metric by step."""

    name: str
    seed: int
    config: dict[str, Any]
    """Flat, without the keys of NO_GROUP."""
    curves: dict[str, Curve]


@dataclass(frozen=True)
class Group:
    """Runs of one config with different seeds."""

    label: str
    """What tells them from the other groups."""
    runs: list[ComparedRun]


@dataclass(frozen=True)
class Spread:
    """What the runs of a group come to at one step."""

    step: int
    mean: float
    low: float
    """The lowest of the runs."""
    high: float


def read_run(path: Path) -> ComparedRun:
    """A run on disk, finished or not. Raises SpiralError if it is none, or has no metrics."""
    run, config = RunDir.open(path)
    curves: dict[str, Curve] = {}
    for line in run.metrics():
        step = line.pop("step")
        for name, value in line.items():
            if value is not None and math.isfinite(value):
                curves.setdefault(name, {})[step] = float(value)
    if not curves:
        raise SpiralError(f"run {path} has no metrics yet; let it take a step, or leave it out")
    kept = {key: value for key, value in asdict(config).items() if key not in NO_GROUP}
    return ComparedRun(str(path), config.seed, flat(kept), curves)


def grouped(runs: Sequence[ComparedRun]) -> list[Group]:
    """Runs whose configs are the same but for the seed, in the order in which the first of each was named."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.config, sort_keys=True), []).append(run)
    configs = [members[0].config for members in groups.values()]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if len({json.dumps(c[key]) if key in c else None for c in configs}) > 1]
    return [Group(_label(members[0].config, differing), members) for members in groups.values()]


def spread(curves: Sequence[Mapping[int, float]]) -> list[Spread]:
    """Mean and extremes at every step that all of the curves have, so that no step is the mean of other runs."""
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    found = []
    for step in common:
        values = [curve[step] for curve in curves]
        found.append(Spread(step, math.fsum(values) / len(values), min(values), max(values)))
    return found


def chosen_metrics(runs: Sequence[ComparedRun], asked: Sequence[str]) -> list[str]:
    """The metrics asked for, or without any those a run is judged by. Raises SpiralError for one that no run has."""
    known = list(dict.fromkeys(name for run in runs for name in run.curves))
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:5]
            raise SpiralError(f"none of the runs has a metric '{name}'; they have {', '.join(near)}, and others")
    return list(dict.fromkeys(asked)) or headline_metrics(known)


def headline_metrics(names: Iterable[str]) -> list[str]:
    """Of each game its exact NashConv; where that is unknown its wins in matches, else the returns of its players. And
    of each benchmark the share that was right."""
    by_game: dict[str, dict[int, list[str]]] = {}
    names = list(names)
    right = [name for name in names if (task := metric_names.parse_task(name)) and task[1] == "accuracy"]
    for name in names:
        if (parsed := metric_names.parse(name)) is None:
            continue
        exact = name == metric_names.nash_conv(parsed.game)
        wins = parsed.opponent is not None and parsed.quantity == "win"
        returns = parsed.stage == "play" and metric_names.split_player(parsed.quantity)[0] == "return"
        rank = 0 if exact else 1 if wins else 2 if returns else None
        if rank is not None:
            by_game.setdefault(parsed.game, {}).setdefault(rank, []).append(name)
    return [name for ranked in by_game.values() for name in ranked[min(ranked)]] + right


def title(metric: str) -> str:
    """How a metric is called over its chart."""
    if (task := metric_names.parse_task(metric)) is not None:
        return f"{'right' if task[1] == 'accuracy' else task[1]} {task[0]}"
    parsed = metric_names.parse(metric)
    if parsed is None:
        return metric
    if metric == metric_names.nash_conv(parsed.game):
        return f"NashConv {parsed.game}"
    if parsed.opponent is not None:
        return f"{parsed.quantity} {parsed.game} as player {parsed.player} vs {parsed.opponent}"
    return f"{parsed.quantity} {parsed.game}".replace("_", " ") if parsed.stage == "play" else metric


def _label(config: Mapping[str, Any], differing: Sequence[str]) -> str:
    parts = [f"{key}={_short(config[key])}" if key in config else f"no {key}" for key in differing]
    # An argument of a plug-in that another group does not have says nothing beside its name.
    said = [part for part in parts if not part.startswith("no ")] or parts
    return ", ".join(said) or "all runs"


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."
