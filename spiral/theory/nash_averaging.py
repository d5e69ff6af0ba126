"""The game of choosing a player: its maximum-entropy equilibrium, and the cycles in who beats whom.

Works on tables of numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from spiral.theory.intervals import Floats

COLDEST = 1e-9
"""Temperature at which the path to the equilibrium ends; what a best response would gain is below it times log P."""


def nash_average(payoffs: Floats, coldest: float = COLDEST) -> Floats:
    """(P,): the symmetric equilibrium of the zero-sum game with antisymmetric `payoffs` (P, P) of largest entropy.

    Nash averaging (Balduzzi et al. 2018, arXiv 1806.02643): unlike a mean over opponents it does not change when a
    player is entered twice, and no player has weight who loses to the equilibrium. Found as the limit of the logit
    equilibria p = softmax(payoffs p / t), t to 0, each by Newton's method from the one before: the entropy-regularised
    game has one solution, and as the regulariser vanishes the solutions go to the equilibrium of largest entropy.
    """
    size = float(np.abs(payoffs).max(initial=0.0))
    game = payoffs / size if size else np.zeros_like(payoffs)
    logits = np.zeros(len(game))
    temperature = 1.0
    while size and temperature > coldest:
        temperature = max(temperature / 2, coldest)
        logits = _logit_equilibrium(game / temperature, logits)
    return _softmax(logits)


def cycles(beats: NDArray[np.bool_], scores: Floats) -> list[list[int]]:
    """Rings of players of whom each beats the next and the last the first, strongest first.

    All of three players, and for each group that a longer ring holds together without one of three, a shortest. A ring
    is as strong as its lowest score. Each begins with its lowest number.
    """
    found = [ring for trio in combinations(range(len(beats)), 3) for ring in (trio, trio[::-1]) if _holds(ring, beats)]
    rings = [_from_lowest(ring) for ring in found]
    for group in circles(beats):
        if not any(set(ring) <= set(group) for ring in rings):
            rings.append(_from_lowest(_shortest_ring(group, beats)))
    return sorted(rings, key=lambda ring: (-strength(ring, scores), ring))


def strength(ring: Sequence[int], scores: Floats) -> float:
    """The lowest score of a ring's players against the one that follows."""
    return min(float(scores[one, other]) for one, other in _steps(ring))


def circles(beats: NDArray[np.bool_]) -> list[list[int]]:
    """The strongly connected components of more than one player: each one in it is beaten, in steps, by each other."""
    reach = beats.copy()
    for middle in range(len(reach)):
        reach |= reach[:, middle : middle + 1] & reach[middle : middle + 1, :]
    mutual = reach & reach.T
    groups = {tuple(int(i) for i in np.flatnonzero(row)) for row in mutual}
    return sorted([list(group) for group in groups if len(group) > 1])


def _logit_equilibrium(game: Floats, logits: Floats) -> Floats:
    """x = game softmax(x), by Newton's method with halved steps.

    The Jacobian 1 - game (diag(p) - p p^T) is never singular: a skew-symmetric matrix times a positive semi-definite
    one has eigenvalues on the imaginary axis.
    """
    for _ in range(100):
        chances = _softmax(logits)
        gap = logits - game @ chances
        size = float(np.abs(gap).max())
        if size < 1e-12 * (1 + float(np.abs(logits).max())):
            break
        slope = game * chances - np.outer(game @ chances, chances)
        step = np.linalg.solve(np.eye(len(game)) - slope, -gap)
        length = 1.0
        while length > 1e-6:
            tried = logits + length * step
            if float(np.abs(tried - game @ _softmax(tried)).max()) < size:
                break
            length /= 2
        else:
            break  # as near as rounding allows
        logits = tried
    return logits


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def _steps(ring: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(ring, [*ring[1:], ring[0]], strict=True))


def _holds(ring: Sequence[int], beats: NDArray[np.bool_]) -> bool:
    return all(beats[one, other] for one, other in _steps(ring))


def _from_lowest(ring: Sequence[int]) -> list[int]:
    start = ring.index(min(ring))
    return [*ring[start:], *ring[:start]]


def _shortest_ring(group: Sequence[int], beats: NDArray[np.bool_]) -> list[int]:
    return min((_ring_through(start, group, beats) for start in group), key=len)


def _ring_through(start: int, group: Sequence[int], beats: NDArray[np.bool_]) -> list[int]:
    """A shortest ring through one player of a strongly connected group, breadth first."""
    before: dict[int, int] = {}
    waiting = deque([start])
    while start not in before:
        one = waiting.popleft()
        for other in group:
            if beats[one, other] and other not in before:
                before[other] = one
                waiting.append(other)
    ring = [start]
    while (last := before[ring[-1]]) != start:
        ring.append(last)
    return ring[::-1]
