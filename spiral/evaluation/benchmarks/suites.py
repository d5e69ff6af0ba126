"""Suites: benchmarks with their sampling under one name, read from `suites.yaml`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from spiral.api.errors import SpiralError
from spiral.evaluation.benchmarks.benchmark import Asking, Chosen, parse_chosen

SUITES = Path(__file__).with_name("suites.yaml")


@dataclass(frozen=True)
class SuiteGame:
    """A game that is played beside the benchmarks of a suite; `spiral eval` plays it."""

    game: str
    opponent: str
    games: int
    """As each player."""
    held_out: bool = False
    """Whether it is none of those that the suite's models are trained on."""

    def command(self, model: str) -> str:
        """The command that plays it."""
        return shlex.join(
            ["spiral", "eval", model, "--game", self.game, "--opponent", self.opponent, "--games", str(self.games)]
        )


@dataclass(frozen=True)
class Suite:
    """What a name stands for."""

    name: str
    source: str
    tasks: Sequence[str]
    asking: Asking
    games: Sequence[SuiteGame]


def suite_named(name: str) -> Suite:
    """Raises SpiralError for a name that there is not."""
    known: dict[str, Any] = yaml.safe_load(SUITES.read_text(encoding="utf-8"))
    if name not in known:
        raise SpiralError(f"there is no suite '{name}' (there are: {', '.join(known)}); name one, or give --tasks")
    entry = dict(known[name])
    games = [SuiteGame(**game) for game in entry.pop("games", [])]
    return Suite(name, entry.pop("source"), entry.pop("tasks"), Asking(**entry), games)


def chosen_of(tasks: Sequence[str], suite: Suite | None, **asked: Any) -> list[Chosen]:
    """The benchmarks that `--tasks` and `--suite` name together, those of `tasks` in place of the suite's of one name.

    `asked`: fields of `Asking` as the command line gives them, None where it does not: then the suite says, or the
    default holds. Raises SpiralError.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    if suite is None:
        return parse_chosen(tasks, Asking(**given))
    asking = replace(suite.asking, **given)
    of_suite = parse_chosen(suite.tasks, asking)
    own = {one.plugin.name: one for one in (parse_chosen(tasks, asking) if tasks else ())}
    # A file's path is given so, for a set that cannot be shipped; how often it is asked stays the suite's.
    chosen = [_in_place_of(one, own.pop(one.plugin.name, None)) for one in of_suite]
    return [*chosen, *own.values()]


def _in_place_of(one: Chosen, own: Chosen | None) -> Chosen:
    if own is None:
        return one
    samples = one.asking.samples if own.asking.samples == 1 else own.asking.samples
    return replace(own, asking=replace(own.asking, samples=samples))
