"""Skills: which games ask for one, and how good a player is at it, the weighted mean of its ratings in those games.

TextArena's measure (arXiv 2504.11442). The weights are what the games declare, or what the arena's host
says of them in a file.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import ColumnElement, case, func, select

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.api.skills import SKILLS, skills_problem
from spiral.arena import database as db
from spiral.arena.history import PROVISIONAL
from spiral.arena.lobby import GameInfo
from spiral.arena.records import Player
from spiral.arena.store import Store, as_player
from spiral.config.loading import parse_plugin

SHOWN = 100
"""Players of a leaderboard."""
KEPT_S = 5.0
"""How long a leaderboard is shown again."""
FORM = "a mapping such as kuhn_poker: {bluffing: 3, theory_of_mind: 1}"


@dataclass(frozen=True)
class SkillStanding:
    """How good a player is at something."""

    skill: str
    player: Player
    rating: Rating
    """The weighted mean of its ratings, their errors taken as independent."""
    games: int
    """In which it has played enough to be counted."""
    matches: int
    """Of those games."""


class Skills:
    """The skills of an arena's games, and of its players. Reads only; each method is one transaction at the most."""

    def __init__(self, store: Store, games: Sequence[GameInfo]) -> None:
        self._database = store.database
        asked = {skill: {game.name: game.skills[skill] for game in games if skill in game.skills} for skill in SKILLS}
        self.games: Mapping[str, Mapping[str, float]] = {skill: weights for skill, weights in asked.items() if weights}
        """Skill -> game -> weight, of all skills that some game asks for."""
        # All ratings of those games are read for one: a page that many look at must not do that for each of them.
        self._boards: dict[str, tuple[float, list[SkillStanding]]] = {}

    def leaderboard(self, skill: str) -> list[SkillStanding]:
        """The best `SHOWN` of the players with enough matches of some game that asks for the skill, by what it is with
        near certainty (mu - 3 sigma); at most `KEPT_S` old."""
        made, found = self._boards.get(skill, (-math.inf, []))
        if time.monotonic() - made > KEPT_S:
            every = self._standings(skill, db.players.c.banned.is_(False))
            found = heapq.nsmallest(SHOWN, every, key=lambda one: (-one.rating.low, one.player.id))
            self._boards[skill] = time.monotonic(), found
        return found

    def of(self, player: Player) -> list[SkillStanding]:
        """A player's skills, those for which it has played enough."""
        return [one for skill in self.games for one in self._standings(skill, db.players.c.id == player.rated_as)]

    def _standings(self, skill: str, whose: ColumnElement[bool]) -> list[SkillStanding]:
        weights, c = self.games[skill], db.ratings.c
        weight = case(dict(weights), value=c.game)
        sums = (
            func.sum(weight).label("weight"), func.sum(weight * c.mu).label("mu"),
            func.sum(weight * weight * c.sigma * c.sigma).label("variance"),
            func.count().label("games"), func.sum(c.matches).label("matches"),
        )  # fmt: skip
        asked = (
            select(db.players, *sums)
            .select_from(db.ratings.join(db.players))
            .where(c.game.in_(list(weights)), c.matches >= PROVISIONAL, whose)
            .group_by(db.players.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(asked).all()
        return [_standing(skill, row) for row in rows]


def _standing(skill: str, row: Any) -> SkillStanding:
    rating = Rating(row.mu / row.weight, math.sqrt(row.variance) / row.weight)
    return SkillStanding(skill, as_player(row), rating, int(row.games), int(row.matches))


def with_skills(path: Path, games: Sequence[GameInfo]) -> list[GameInfo]:
    """The games with the skills that a host's YAML file gives them, by label or for all arguments by name; a game that
    is not in it keeps those that it declares. Raises SpiralError for a file that is none, and one that names a game
    that is not played."""
    said = _read(path)
    plain = {game.name: parse_plugin(game.name).name for game in games}
    for game, declared in said.items():
        if game not in plain and game not in plain.values():
            raise SpiralError(
                f"--skills {path} names the game '{game}', which is not played here; there are: {', '.join(plain)}"
            )
        if (problem := skills_problem(declared)) is not None:
            raise SpiralError(f"--skills {path}: the skills of {game} {problem}")
    return [
        replace(game, skills=said.get(game.name, said.get(plain[game.name], game.skills)))  # a label before a name
        for game in games
    ]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpiralError(f"--skills {path} cannot be read ({error.strerror}); give a YAML file with {FORM}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpiralError(f"--skills {path} is no YAML ({reason}); write {FORM}") from error
    if not isinstance(tree, dict):
        raise SpiralError(f"--skills {path} holds a {type(tree).__name__}; write {FORM}")
    return tree
