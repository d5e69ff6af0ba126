"""Totals of a cross-play table and their bootstrap; the deal is the unit, since the games of one deal share its luck.

Players are numbers here, and results are scores from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spiral.theory.intervals import Floats

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
