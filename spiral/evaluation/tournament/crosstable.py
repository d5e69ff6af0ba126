"""From the games of a tournament to what it says: the cross-play table, ratings, the Nash average and cycles.

Knows results only; who the players are and how games came about is `spiral.evaluation.tournament`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiral.api.records import outcome
from spiral.evaluation.tournament.pairing import LineUp
from spiral.theory import bootstrap, bradley_terry, intervals
from spiral.theory.bootstrap import Block, Totals
from spiral.theory.bradley_terry import ELO
from spiral.theory.intervals import Floats
from spiral.theory.nash_averaging import circles, cycles, nash_average, strength

Json = dict[str, Any]

NUM_SAMPLES = 1000
"""Bootstrap samples behind the intervals of ratings."""
NUM_NASH_SAMPLES = 200
"""Bootstrap samples behind the intervals of the Nash average, which costs more."""
ROUGH = 1e-4
"""How near to the equilibrium of largest entropy a bootstrap sample's Nash average has to come."""
MAX_CYCLES = 50
"""Cycles that are kept."""


@dataclass(frozen=True, slots=True)
class Result:
    """One finished game."""

    line_up: LineUp
    returns: tuple[float, ...]
    """One a place of the line-up."""
    offender: int | None
    """The place whose illegal move ended the game."""
    cut: bool = False
    """Whether the game was cut at `rollout.max_turns`."""
    fault: str = ""
    """Where the offender is a bot that broke its contract: how."""

    def returns_of(self, player: int) -> list[float]:
        """The returns at the places that a player had."""
        return [reward for one, reward in zip(self.line_up, self.returns, strict=True) if one == player]

    def offended(self, player: int) -> bool:
        """Whether the game ended by an illegal move of this player."""
        return self.offender is not None and self.line_up[self.offender] == player


Meeting = tuple[Result, ...]
"""The games that were played from one deal, one a line-up."""


@dataclass
class PairResults:
    """The meetings of one set of players, and whether they played alone, each compared with the others by return."""

    players: tuple[int, ...]
    alone: bool = False
    meetings: list[Meeting] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every two of the players, the lower number first."""
        return [(one, other) for one in self.players for other in self.players if one < other]

    @property
    def is_match(self) -> bool:
        """Whether two players met without others in the game."""
        return self.alone or len(self.players) == 2


def compared(meeting: Meeting, one: int, other: int, alone: bool) -> list[tuple[float, float]]:
    """(score, margin) of `one` against `other` in each game of a meeting that both played.

    The score is 1 for a win and 1/2 for a draw, the margin half the difference of the returns, which is the return
    where two play for a sum of zero. With more than two places, means over all pairs of a place of each.
    """
    if alone:
        return [_versus([a], [b]) for a in _returns(meeting, one) for b in _returns(meeting, other)]
    met = [(result.returns_of(one), result.returns_of(other)) for result in meeting]
    return [_versus(own, others) for own, others in met if own and others]


def as_block(played: PairResults) -> Block:
    """The same results as numbers a deal, for `spiral.theory.bootstrap`."""
    pairs = tuple(played.pairs)
    found = [[compared(meeting, *two, played.alone) for two in pairs] for meeting in played.meetings]

    def summed(value: Callable[[tuple[float, float]], float]) -> Floats:
        return np.array([[sum(map(value, games)) for games in deal] for deal in found], dtype=float)

    return Block(pairs, summed(lambda game: game[0]), summed(lambda game: game[1]), summed(lambda game: 1.0))


@dataclass(frozen=True)
class Extent:
    """Between which values the games of a tournament lay."""

    lowest: float
    """Return."""
    highest: float
    """Return."""
    margin: float
    """Largest half difference of two returns."""
    graded: bool
    """Whether wins differ in size, so that to win often and to win much are two things."""

    @classmethod
    def of(cls, log: Sequence[PairResults]) -> Extent:
        """At least one game must have been played."""
        games: set[tuple[float, ...]] = set()
        for played in log:
            for meeting in played.meetings:
                games.update([tuple(r.returns[0] for r in meeting)] if played.alone else [r.returns for r in meeting])
        sizes = {round(abs(a - b) / 2, 9) for returns in games for a, b in combinations(returns, 2)}
        values = [value for returns in games for value in returns]
        lowest, highest = intervals.plausible_range(values)  # all alike they do not show how far others may lie
        return cls(lowest, highest, max(sizes, default=0.0) or (highest - lowest) / 2, len(sizes - {0.0}) > 1)


def cells(log: Sequence[PairResults], extent: Extent) -> list[Json]:
    """One row for each ordered pair that met in matches, as JSON values."""
    found = []
    for played in log:
        for one, other in played.pairs if played.is_match else ():
            met = [meeting for meeting in played.meetings if compared(meeting, one, other, played.alone)]
            if met:
                found += [_cell(one, other, met, played.alone, extent), _cell(other, one, met, played.alone, extent)]
    return sorted(found, key=lambda cell: (cell["row"], cell["column"]))


def summary(log: Sequence[PairResults], num_players: int, graded: bool, anchor: int | None, seed: int) -> Json:
    """Ratings and Nash average as JSON values: a row a player, None for one without a game, and the pairs that never
    met."""
    blocks = [as_block(played) for played in log if played.meetings]
    totals = bootstrap.totals(blocks, num_players)
    present = np.flatnonzero(totals.games.sum(1) > 0)
    found = totals.of(present)
    samples = bootstrap.resampled(blocks, num_players, NUM_SAMPLES, np.random.default_rng(seed)).of(present)
    at = [place for place, player in enumerate(present) if player == anchor]
    columns = _elo(found, samples, at) | _nash(found, samples, graded)
    if graded:
        columns |= _worth(found, samples, at)
    rows: list[Json | None] = [None] * num_players
    for place, player in enumerate(present):
        rows[int(player)] = {key: column[place] for key, column in columns.items()}
    return {"players": rows, "unmet_pairs": int((found.games == 0).sum() - len(present)) // 2}


def rings(table: Sequence[Json], num_players: int, graded: bool) -> Json:
    """Cycles of significant wins, strongest first, and the groups that they hold together.

    A win is a score whose interval lies above 1/2 or, in a graded game, a margin whose interval lies above 0.
    """
    beats: NDArray[np.bool_] = np.zeros((num_players, num_players), dtype=bool)
    means = np.zeros((num_players, num_players))
    for cell in table:
        beats[cell["row"], cell["column"]] = cell["beats"]
        means[cell["row"], cell["column"]] = cell["margin"] if graded else cell["score"]
    found = cycles(beats, means)
    return {
        "cycles": [
            {"players": ring, "strength": strength(ring, means), "steps": _ring_steps(ring, means)}
            for ring in found[:MAX_CYCLES]
        ],
        "num_cycles": len(found),
        "groups": circles(beats),
    }


def _cell(row: int, column: int, met: Sequence[Meeting], alone: bool, extent: Extent) -> Json:
    by_deal = [compared(meeting, row, column, alone) for meeting in met]
    games = [game for deal in by_deal for game in deal]
    score, low, high = intervals.score_interval([_mean(score for score, _ in deal) for deal in by_deal])
    margins = [_mean(margin for _, margin in deal) for deal in by_deal]
    margin = intervals.mean_interval(margins, -extent.margin, extent.margin)
    returns = intervals.mean_interval([_mean(_returns(meeting, row)) for meeting in met], extent.lowest, extent.highest)
    results = [result for meeting in met for result in meeting if row in result.line_up]
    return {
        "row": row,
        "column": column,
        "games": len(games),
        "deals": len(met),
        "wins": sum(score > 0.5 for score, _ in games),
        "draws": sum(score == 0.5 for score, _ in games),
        "losses": sum(score < 0.5 for score, _ in games),
        "beats": margin[1] > 0 if extent.graded else low > 0.5,
        "score": score,
        "score_low": low,
        "score_high": high,
        **dict(zip(("margin", "margin_low", "margin_high"), margin, strict=True)),
        **dict(zip(("return", "return_low", "return_high"), returns, strict=True)),
        "illegal": sum(result.offended(row) for result in results) / len(results),
        "cut": sum(result.cut for result in results) / len(results),
        "by_player": [_as_player(results, row, column, player) for player in range(len(results[0].line_up))],
    }


def _as_player(results: Sequence[Result], row: int, column: int, player: int) -> Json:
    """The row's results as one player of the game; the score is None where the column's never played against it."""
    own = [result for result in results if result.line_up[player] == row]
    scores = [_versus([r.returns[player]], opponents)[0] for r in own if (opponents := r.returns_of(column))]
    return {
        "games": len(own),
        "score": _mean(scores) if scores else None,
        "return": _mean(result.returns[player] for result in own) if own else None,
        "illegal": sum(result.offender == player for result in own) / max(1, len(own)),
    }


def _elo(found: Totals, samples: Totals, at: Sequence[int]) -> dict[str, list[Any]]:
    """Elo points by Bradley-Terry, with the middle 95% of the bootstrap; the player `at` has 0, else the mean is 0.

    A player who never lost half a point may be any amount better, one who never won any amount worse: None.
    """
    points, low, high = _with_interval(
        bradley_terry.bradley_terry(found.wins), bradley_terry.bradley_terry(samples.wins), at
    )
    return {
        "elo": [ELO * float(x) for x in points],
        "elo_low": [ELO * float(x) if won else None for x, won in zip(low, found.wins.sum(1), strict=True)],
        "elo_high": [ELO * float(x) if lost else None for x, lost in zip(high, found.wins.sum(0), strict=True)],
    }


def _worth(found: Totals, samples: Totals, at: Sequence[int]) -> dict[str, list[Any]]:
    """What a player wins a game of the field's average, in points of the game, with the middle 95% of the bootstrap."""
    drawn = bradley_terry.least_squares(samples.margins, samples.games)
    columns = _with_interval(bradley_terry.least_squares(found.margins, found.games), drawn, at)
    return dict(zip(("worth", "worth_low", "worth_high"), ([*map(float, column)] for column in columns), strict=True))


def _with_interval(fitted: Floats, samples: Floats, at: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """(value, low, high), moved so that the player `at` has 0."""
    for place in at:
        fitted, samples = fitted - fitted[place], samples - samples[:, place : place + 1]
    low, high = bootstrap.percentiles(samples)
    return fitted, np.minimum(low, fitted), np.maximum(high, fitted)


def _nash(found: Totals, samples: Totals, graded: bool) -> dict[str, list[Any]]:
    """The weight of each player in the Nash average, its bootstrap interval, and what it gets against that average."""
    payoffs = _payoffs(found, graded)
    drawn = (Totals(*tables) for tables in zip(samples.wins, samples.margins, samples.games, strict=True))
    redone = [nash_average(_payoffs(one, graded), ROUGH) for one in islice(drawn, NUM_NASH_SAMPLES)]
    weights, low, high = _with_interval(nash_average(payoffs), np.array(redone), ())
    return {
        "nash": [float(x) for x in weights],
        "nash_low": [float(x) for x in low],
        "nash_high": [float(x) for x in high],
        "against_nash": [float(x) + (0.0 if graded else 0.5) for x in payoffs @ weights],
    }


def _payoffs(found: Totals, graded: bool) -> Floats:
    """Mean scores less 1/2, or mean margins; of pairs that never met, what their ratings predict."""
    if graded:
        ratings = bradley_terry.least_squares(found.margins, found.games)
        guess, known = ratings[:, None] - ratings[None, :], found.margins
    else:
        guess = bradley_terry.expected_scores(bradley_terry.bradley_terry(found.wins)) - 0.5
        known = found.wins - found.games / 2
    payoffs: Floats = np.where(found.games > 0, known / np.maximum(found.games, 1e-300), guess)
    np.fill_diagonal(payoffs, 0.0)
    return payoffs


def _ring_steps(ring: Sequence[int], means: Floats) -> list[float]:
    return [float(means[one, other]) for one, other in zip(ring, [*ring[1:], ring[0]], strict=True)]


def _versus(own: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """(score, margin), means over all pairs of one's returns and the other's."""
    pairs = list(product(own, other))
    return _mean(outcome(a, b) for a, b in pairs), _mean((a - b) / 2 for a, b in pairs)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _returns(meeting: Meeting, player: int) -> list[float]:
    """A player's mean return of each game it played."""
    return [sum(got) / len(got) for result in meeting if (got := result.returns_of(player))]
