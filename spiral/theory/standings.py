"""The mathematics of a cross-play table: intervals of scores, Bradley-Terry strengths and their bootstrap.

Knows no game and no policy: players are numbers, results are scores from 0 to 1, and the deal is the unit that is
independent, since the games of one deal share its luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Z = 1.959964
"""Of 95% intervals."""
ELO = 400 / math.log(10)
"""Points a unit of log-odds: 400 points are odds of 10 to 1."""
PRIOR = 0.1
"""Drawn games of each player against a player of average strength, which keep an unbeaten one's strength finite."""
DOUBT = 1.0
"""Wins and, as many, losses of each player that the bootstrap adds on average: without them it would be certain that
who lost no game can lose none."""


@dataclass(frozen=True)
class Block:
    """Deals that were played by the same line-ups, so that any of them could stand for any other.

    `pairs[k]`: two players. `scores[d, k]`: the sum of the first one's scores against the second in the games of deal
    d; `margins[d, k]`: of half the differences of their returns; `counts[d, k]`: how many games these sum over.
    """

    pairs: tuple[tuple[int, int], ...]
    scores: Floats
    margins: Floats
    counts: Floats


@dataclass(frozen=True)
class Totals:
    """Sums over games, (..., P, P): what each row's player got against each column's."""

    wins: Floats
    """Scores; draws are halves."""
    margins: Floats
    """Half the differences of the returns; antisymmetric."""
    games: Floats

    def of(self, players: NDArray[np.intp]) -> Totals:
        """The same of some of the players."""
        inside = (..., players[:, None], players[None, :])
        return Totals(self.wins[inside], self.margins[inside], self.games[inside])


def score_interval(deals: Sequence[float] | Floats, z: float = Z) -> tuple[float, float, float]:
    """(mean, low, high) of the mean score, from one mean score a deal, each from 0 to 1; (1/2, 0, 1) without deals.

    Wilson's interval (1927) with the observed variance in the place of p(1 - p): for deals that are won or lost it is
    Wilson's, draws and chairs that cancel make it narrower, and it stays wider than 0 where all deals agree.
    """
    scores = np.asarray(deals, dtype=float)
    n = len(scores)
    if n == 0:
        return 0.5, 0.0, 1.0
    mean, variance = float(scores.mean()), float(scores.var())
    middle = (n * mean + z * z / 2) / (n + z * z)
    half = z * math.sqrt(n * variance + z * z / 4) / (n + z * z)
    return mean, max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(deals: Sequence[float] | Floats, lowest: float, highest: float) -> tuple[float, float, float]:
    """(mean, low, high) of the mean of values that lie between two bounds, one a deal: `score_interval`, scaled.

    Not Student's: of deals that all came out alike it would be certain, and two policies that are almost the same play
    almost the same games from one seed.
    """
    width = highest - lowest
    if width <= 0 or not len(deals):
        return lowest, lowest, highest
    mean, low, high = score_interval((np.asarray(deals, dtype=float) - lowest) / width)
    return lowest + width * mean, lowest + width * low, lowest + width * high


def totals(blocks: Sequence[Block], num_players: int) -> Totals:
    """The sums over all games."""
    return _summed(blocks, num_players, (), lambda block: np.ones(len(block.counts)))


def resampled(blocks: Sequence[Block], num_players: int, num: int, rng: np.random.Generator) -> Totals:
    """`totals` of `num` bootstrap samples, along the first axis: each block's deals drawn anew with replacement.

    To each player's games come about `DOUBT` wins and losses, of the largest margin that a deal had, spread over the
    opponents as the games are.
    """

    def drawn(block: Block) -> Floats:
        deals = len(block.counts)
        return np.asarray(rng.multinomial(deals, np.full(deals, 1 / deals), size=num), dtype=float)

    found = _summed(blocks, num_players, (num,), drawn)
    games = totals(blocks, num_players).games
    each = np.maximum(games.sum(1), 1)
    doubt = rng.poisson(DOUBT * games / np.sqrt(each[:, None] * each[None, :]), size=found.wins.shape)
    back = doubt.swapaxes(1, 2)
    largest = max(float(np.abs(block.margins / np.maximum(block.counts, 1)).max()) for block in blocks)
    return Totals(found.wins + doubt, found.margins + largest * (doubt - back), found.games + doubt + back)


def bradley_terry(wins: Floats, prior: float = PRIOR) -> Floats:
    """(..., P): log-strengths r with mean 0 that make `wins` (..., P, P) likeliest: P(i beats j) = 1/(1+exp(r_j-r_i)).

    Maximum likelihood (Bradley and Terry 1952; ties as half wins) with `prior` drawn games of each player against a
    player of strength 0, by Newton's method with halved steps; several tables at once along the leading axes.
    """
    table = np.asarray(wins, dtype=float)
    flat = table.reshape(-1, *table.shape[-2:])
    games = flat + flat.swapaxes(1, 2)
    strengths = np.zeros(flat.shape[:2])
    worth = _log_likelihood(strengths, flat, prior)
    for _ in range(200):
        step = _newton_step(strengths, flat, games, prior)
        size = np.ones((len(flat), 1))
        for _ in range(40):
            tried = strengths + size * step
            found = _log_likelihood(tried, flat, prior)
            worse = found < worth - 1e-12 * (1 + np.abs(worth))
            if not worse.any():
                break
            size[worse] /= 2
        strengths, worth = tried, found
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    strengths = strengths - strengths.mean(1, keepdims=True)
    return np.asarray(strengths.reshape(table.shape[:-1]))


def least_squares(margins: Floats, games: Floats, prior: float = PRIOR) -> Floats:
    """(..., P): ratings r with mean 0 for which r_i - r_j is nearest to the mean margins, weighted by games.

    With `prior` games of margin 0 of each player against a player of rating 0. Players who all met equally often have
    the mean of their margins.
    """
    laplacian = -games
    diagonal = np.arange(games.shape[-1])
    laplacian[..., diagonal, diagonal] += games.sum(-1) + prior
    ratings = np.linalg.solve(laplacian, margins.sum(-1)[..., None])[..., 0]
    return np.asarray(ratings - ratings.mean(-1, keepdims=True))


def expected_scores(strengths: Floats) -> Floats:
    """(P, P): the score that Bradley-Terry strengths predict of each row's player against each column's."""
    return np.asarray(_sigmoid(strengths[:, None] - strengths[None, :]))


def percentiles(samples: Floats) -> tuple[Floats, Floats]:
    """The ends of the middle 95% of `samples`, along the first axis."""
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    return low, high


def _summed(
    blocks: Sequence[Block], num_players: int, lead: tuple[int, ...], weights: Callable[[Block], Floats]
) -> Totals:
    """Sums with each deal as often as its weight (*lead, D) says."""
    found = Totals(*(np.zeros((*lead, num_players, num_players)) for _ in range(3)))
    for block in blocks:
        weight = weights(block)
        scores, margins, counts = weight @ block.scores, weight @ block.margins, weight @ block.counts
        for k, (one, other) in enumerate(block.pairs):
            found.wins[..., one, other] += scores[..., k]
            found.wins[..., other, one] += counts[..., k] - scores[..., k]
            found.margins[..., one, other] += margins[..., k]
            found.margins[..., other, one] -= margins[..., k]
            found.games[..., one, other] += counts[..., k]
            found.games[..., other, one] += counts[..., k]
    return found


def _log_likelihood(strengths: Floats, wins: Floats, prior: float) -> Floats:
    gaps = strengths[:, :, None] - strengths[:, None, :]
    drawn = np.logaddexp(0, strengths) + np.logaddexp(0, -strengths)
    found = -(wins * np.logaddexp(0, -gaps)).sum((1, 2)) - prior / 2 * drawn.sum(1)
    return np.asarray(found)


def _newton_step(strengths: Floats, wins: Floats, games: Floats, prior: float) -> Floats:
    expected = _sigmoid(strengths[:, :, None] - strengths[:, None, :])
    alone = _sigmoid(strengths)
    slope = (wins - games * expected).sum(2) - prior * (alone - 0.5)
    curvature = games * expected * (1 - expected)
    hessian = -curvature
    diagonal = np.arange(wins.shape[1])
    hessian[:, diagonal, diagonal] += curvature.sum(2) + prior * alone * (1 - alone)
    return np.asarray(np.linalg.solve(hessian, slope[:, :, None])[:, :, 0])


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))
