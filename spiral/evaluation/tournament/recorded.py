"""A tournament of games that were played elsewhere, such as in the arena: the same tables and ratings, read from a file
of examples."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.config.loading import load, parse_plugin
from spiral.evaluation.tournament.crosstable import Json, Result
from spiral.evaluation.tournament.entrants import Entrant, Participants, number_of
from spiral.evaluation.tournament.record import tournament_record
from spiral.evaluation.tournament.tournament import Tournament, TournamentConfig
from spiral.plugins.registry import Plugins, label
from spiral.policies.pool import Pool
from spiral.policies.reference import PolicyRef
from spiral.selfplay.examples import Example, by_game, read_examples

NOTE = (
    "These games were played elsewhere and no two share a deal, so luck of the deal is in the results; a game in which "
    "no player made a legal move is not in the file."
)


def recorded_tournament(path: Path, game: str | None, config: TournamentConfig, anchor: str | None) -> Json:
    """The record of the games of one kind in a file that `spiral arena-export` or `spiral collect` wrote.

    `game`: which, where the file has several. Raises SpiralError for a file or a game that cannot be used.
    """
    matches = by_game(read_examples(path))
    name = _game(game, Counter(one[0].game for one in matches), path)
    played = [one[0] for one in matches if one[0].game == name and len(set(one[0].policies)) > 1]
    if not played:
        raise SpiralError(f"{path} holds no game of {name} between two players; name another --game, or another file")
    names = sorted({policy for one in played for policy in one.policies})
    entrants = [Entrant(policy, PolicyRef("bot", policy), None) for policy in names]
    plugins, rules = Plugins.installed(), load(None)
    plugin = parse_plugin(name)
    participants = Participants(
        name, plugins.bound("game", plugin.name, plugin.args), len(played[0].policies), entrants, names, Pool(plugins),
        rules,
    )  # fmt: skip
    config = replace(config, anchor=None if anchor is None else number_of(anchor, entrants))
    tournament = Tournament(participants, config)
    tournament.add([_result(one, names) for one in played])
    record = tournament_record(tournament)
    players = [one | {"kind": "recorded"} for one in record["players"]]
    settings = record["config"] | {"schedule": "recorded", "games": len(played)}
    return {
        **record,
        "players": players,
        "rules": {},
        "config": settings,
        "notes": [NOTE, *record["notes"]],
        "versions": {"python": platform.python_version(), **dict(sorted(plugins.distributions.items()))},
        "times": {"started": int(time.time()), "seconds": 0.0},
    }


def _game(asked: str | None, found: Counter[str], path: Path) -> str:
    if asked is None and len(found) == 1:
        return next(iter(found))
    if asked is not None:
        plugin = parse_plugin(asked)
        if (name := label(plugin.name, plugin.args)) in found:
            return name
    what = "no game was named" if asked is None else f"there is no '{asked}'"
    has = ", ".join(f"{name} ({count:,})" for name, count in found.most_common())
    raise SpiralError(f"{what}; {path} has: {has}; name one with --game")


def _result(example: Example, names: Sequence[str]) -> Result:
    """Of a game, by any of its examples."""
    returns = tuple(map(float, example.returns))
    offender = returns.index(min(returns)) if example.ending == "illegal" else None  # who forfeits gets the least
    return Result(tuple(map(names.index, example.policies)), returns, offender, example.ending == "cut")
