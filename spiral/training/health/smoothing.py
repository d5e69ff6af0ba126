"""Metrics over time: smoothed values and their extremes, by game and quantity."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spiral.runs import metric_names
from spiral.theory.intervals import TWO_SIDED_99, wilson_interval

NUM_RECENT = 5
"""Measurements that a trace without smoothing remembers."""
_EVALUATION_KEEP = 0.5
"""Decay of results of matches from one evaluation to the next: their noise halves in variance thrice, and what an
evaluation shows counts for half at once."""
_HUGE = 1e100
"""No measurement is as large, and sums of what is smaller stay finite."""


@dataclass
class Trace:
    """One quantity: a mean over recent observations, weighed by how many games each rests on, and its history."""

    keep: float
    """What an observation weighs one later; 0 remembers only the last."""
    mean: float = 0.0
    weight: float = 0.0
    squares: float = 0.0
    num: int = 0
    first: float | None = None
    low: float | None = None
    high: float | None = None
    """Extremes of the mean, and its first value, since it rests on about as many observations as it ever will."""
    peak: list[float] | None = None
    """Of a share: the (mean, games) that had the highest lower bound."""
    recent: list[list[float]] = field(default_factory=list)
    """Without smoothing: the last few (step, value)."""

    def add(self, step: int, value: float, games: float, apart: float) -> None:
        """One more observation, resting on `games` games; `recent` ones are at least `apart` steps from each other."""
        weight = self.weight * self.keep + games
        self.mean = (self.mean * self.weight * self.keep + value * games) / weight
        self.weight, self.squares = weight, self.squares * self.keep**2 + games
        self.num += 1
        if self.num * (1 - self.keep) >= 0.99:
            self.first = self.mean if self.first is None else self.first
            self.low = self.mean if self.low is None else min(self.low, self.mean)
            self.high = self.mean if self.high is None else max(self.high, self.mean)
        if games > 1 and (self.peak is None or self.interval[0] > interval(*self.peak)[0]):
            self.peak = [self.mean, self.games]
        if self.keep == 0 and (not self.recent or step - self.recent[-1][0] >= apart):
            self.recent = [*self.recent, [step, value]][-NUM_RECENT:]

    @property
    def games(self) -> float:
        """How many games the mean effectively rests on (Kish 1965)."""
        return self.weight**2 / self.squares if self.squares else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Of a share: that of the mean."""
        return interval(self.mean, self.games)


def interval(share: float, games: float) -> tuple[float, float]:
    """Of a share of so many games: Wilson's, 99% since detectors look again and again."""
    return wilson_interval(share * games, games, TWO_SIDED_99)


@dataclass(frozen=True)
class Observation:
    """One value of one quantity of a game; `game` is empty for the whole run."""

    game: str
    quantity: str
    value: float
    games: float
    keep: float


def observations(metrics: Mapping[str, Any], keep: float, match_games: int) -> Iterator[Observation]:
    """What a step's metrics tell; what is no number, or not finite, is as if it were not there.

    `keep`: decay of what is observed every step. `match_games`: matches of an evaluation as each player.
    """
    values = {name: float(value) for name, value in metrics.items() if _is_number(value)}
    scores: dict[tuple[str, str], list[float]] = {}
    for name, value in values.items():
        game, quantity = _parsed(name)
        if quantity in ("nash_conv", "rare_moves"):
            yield Observation(game, quantity, value, 1.0, 0.0)
        elif quantity.startswith("vs "):
            draws = values.get(name.removesuffix("win") + "draw", 0.0)
            scores.setdefault((game, quantity), []).append(value + draws / 2)
        elif quantity.startswith("score_"):
            games = values.get(name.removesuffix(quantity) + quantity.replace("score_", "games_"), 0.0)
            if games > 0:
                yield Observation(game, quantity, value, games, keep)
        elif quantity:
            yield Observation(game, quantity, value, 1.0, keep)
    for (game, quantity), shares in scores.items():
        yield Observation(game, quantity, sum(shares) / len(shares), float(match_games * len(shares)), _EVALUATION_KEEP)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -_HUGE < value < _HUGE


_OF_THE_RUN = {metric_names.REFUSED: "refused", metric_names.MOVED: "moved"}
_HEALTH = re.compile(r"(?:win|illegal|entropy)_p\d+|draw_rate|zero_share|cut_off|unreadable|score_old")


@functools.lru_cache(maxsize=4096)
def _parsed(name: str) -> tuple[str, str]:
    """(game, quantity) of a metric; ("", "") for all that no rule looks at."""
    if quantity := _OF_THE_RUN.get(name):
        return "", quantity
    found = metric_names.parse(name)
    if found is None:
        return "", ""
    if found.opponent is not None:
        return (found.game, f"vs {found.opponent}") if found.quantity == "win" else ("", "")
    exact = found.stage == "eval" and found.quantity in ("nash_conv", "rare_moves")
    if exact or (found.stage == "health" and _HEALTH.fullmatch(found.quantity)):
        return found.game, found.quantity
    return "", ""
