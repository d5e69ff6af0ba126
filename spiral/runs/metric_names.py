"""The names of metrics, built and parsed here only, since files of runs, reports and trackers all read them.

A name is `stage/quantity`, `stage/GAME/quantity` or `eval/GAME/vs/OPPONENT/pPLAYER/quantity`. Games and opponents may
hold slashes. Only the mark `/vs/` would be ambiguous inside one, so it is escaped there as a URL escapes it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

Stage = Literal["eval", "play", "health", "pool"]

ILLEGAL_RATE = "play/illegal_rate"
VOIDED = "play/voided"
REFUSED = "learner/refused"
STEP_SECONDS = "time/step_s"

_MATCH = re.compile(r"eval/(.+?)/vs/(.+)/p(\d+)/([^/]+)")
_OF_GAME = re.compile(r"(eval|play|health|pool)/(.+)/([^/]+)")


@dataclass(frozen=True)
class MetricName:
    """What a name says: a quantity of one game, and in a match of one player against an opponent."""

    stage: Stage
    game: str
    quantity: str
    opponent: str | None = None
    player: int | None = None


def of_game(stage: Stage, game: str, quantity: str) -> str:
    """`stage/GAME/quantity`."""
    return f"{stage}/{_escaped(game)}/{quantity}"


def match(game: str, opponent: str, player: int, quantity: str) -> str:
    """A result of matches of `player` against `opponent`."""
    return f"eval/{_escaped(game)}/vs/{_escaped(opponent)}/p{player}/{quantity}"


def nash_conv(game: str) -> str:
    """Exact NashConv of the averaged weights."""
    return of_game("eval", game, "nash_conv")


def rating(game: str) -> str:
    """The learner's rating, mu."""
    return of_game("pool", game, "rating")


def rating_low(game: str) -> str:
    """The learner's rating, mu - 3 sigma."""
    return of_game("pool", game, "rating_low")


def seconds(part: str) -> str:
    """Wall time of one part of a step."""
    return f"time/{part}_s"


def voided_by(cause: str) -> str:
    """Games of a step voided by one cause."""
    return f"{VOIDED}: {cause}"


def is_evaluation(name: str) -> bool:
    """Whether a metric was measured by an evaluation, and not by the step itself."""
    return name.startswith("eval/")


@functools.lru_cache(maxsize=4096)
def parse(name: str) -> MetricName | None:
    """What a name says; None for one that belongs to no game."""
    if found := _MATCH.fullmatch(name):
        game, opponent, player, quantity = found.groups()
        return MetricName("eval", _plain(game), quantity, _plain(opponent), int(player))
    if found := _OF_GAME.fullmatch(name):
        stage, game, quantity = found.groups()
        return MetricName(stage, _plain(game), quantity)  # type: ignore[arg-type]  # the pattern names the stages
    return None


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/vs/", "/vs%2F") if "/vs/" in name or "%" in name else name


def _plain(name: str) -> str:
    return name.replace("/vs%2F", "/vs/").replace("%25", "%") if "%" in name else name
