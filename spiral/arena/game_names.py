"""Which games the words of `--games` name: one each, or with * and ? all whose names they match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from spiral.api.errors import SpiralError
from spiral.api.policies import is_external
from spiral.config.loading import parse_plugin
from spiral.config.schema import PluginConfig
from spiral.plugins.registry import Plugins

PLAIN = "*"
"""Matches all games that are of no family and need no argument."""


@dataclass(frozen=True)
class NamedGame:
    """A game that was asked for."""

    game: PluginConfig
    pattern: str
    """By which it was found; empty where it was named. One that was found and turns out to be unfit is left out."""


def named_games(plugins: Plugins, words: Sequence[str]) -> list[NamedGame]:
    """Each game once, in the order in which it is asked for; `PLAIN` without any word. Raises SpiralError for a name
    that is none, and for a pattern that matches nothing."""
    found: dict[str, NamedGame] = {}
    for word in words or (PLAIN,):
        for one in _matching(plugins, word) if re.search(r"[*?]", word.partition(":")[0]) else [_named(plugins, word)]:
            found.setdefault(f"{one.game.name}:{sorted(one.game.args.items())}", one)
    return list(found.values())


def families(plugins: Plugins) -> list[str]:
    """The families of games, each of which a pattern such as `textarena/*` names."""
    return [r.name for r in plugins.registrations() if r.kind == "game" and r.members]


def _named(plugins: Plugins, word: str) -> NamedGame:
    game = parse_plugin(word)
    if (problem := plugins.problem("game", game.name, game.args)) is not None:
        raise SpiralError(problem)
    return NamedGame(game, "")


def _matching(plugins: Plugins, pattern: str) -> list[NamedGame]:
    wanted_family, slash, wanted = pattern.rpartition("/")
    names: list[str] = []
    for one in plugins.registrations():
        if one.kind != "game" or is_external(one.factory):
            continue
        if not slash and not one.members and fnmatchcase(one.name, pattern):
            names.append(one.name)
        if slash and one.members and fnmatchcase(one.name, wanted_family):
            names += [f"{one.name}/{member}" for member in one.members() if fnmatchcase(member, wanted)]
    # One that needs an argument can be named alone.
    names = [name for name in names if plugins.problem("game", name, {}) is None]
    if not names:
        raise SpiralError(
            f"--games {pattern} matches no game that needs no argument; families are named as 'FAMILY/*' (there are: "
            f"{', '.join(families(plugins)) or 'none'}), and `spiral plugins` lists what is installed"
        )
    return [NamedGame(PluginConfig(name), pattern) for name in names]
