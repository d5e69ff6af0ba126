"""The lower bound on NashConv that learned best responses prove, from games against the frozen policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from spiral.api.records import Episode, PolicyId
from spiral.evaluation.matches import MatchRunner
from spiral.theory.intervals import ONE_SIDED_95, TWO_SIDED_95


@dataclass(frozen=True)
class FrozenOpponents:
    """The frozen policy as every player of a game but one."""

    runner: MatchRunner
    game: str
    num_players: int
    frozen: PolicyId

    def play(self, policy: PolicyId, chair: int, num_games: int, seed: Sequence[int | str]) -> list[Episode]:
        """Games with `policy` at one chair. Equal seeds are equal deals, whoever sits where."""
        seats = [policy if player == chair else self.frozen for player in range(self.num_players)]
        return self.runner.play(self.game, seats, num_games, seed)

    def choose(self, candidates: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]) -> list[PolicyId]:
        """For each chair, the candidate with the highest mean return there; a later one where they tie."""
        if len(candidates) == 1:
            return [candidates[0]] * self.num_players
        chosen = []
        for chair in range(self.num_players):
            means = [
                fmean(e.returns[chair] for e in self.play(candidate, chair, num_games, seed))
                for candidate in candidates
            ]
            chosen.append(max(zip(means, range(len(means)), candidates, strict=True))[2])
        return chosen

    def measure(
        self, responders: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]
    ) -> tuple[list[Episode], list[list[Episode]]]:
        """The frozen policy among itself, and each chair's responder against it, all from the same deals."""
        own = self.play(self.frozen, 0, num_games, seed)
        return own, [self.play(policy, chair, num_games, seed) for chair, policy in enumerate(responders)]


@dataclass(frozen=True)
class Response:
    """What a responder gets at one chair; errors are half the widths of 95% intervals (normal approximation)."""

    player: int
    mean_return: float
    return_error: float
    frozen_return: float
    """What the frozen policy gets there against itself."""
    gain: float
    """The difference, deal by deal: no more, but for chance, than a best response would gain."""
    gain_error: float


@dataclass(frozen=True)
class LowerBound:
    """The lower bound on NashConv that responders prove.

    NashConv is the sum over players of (best response value - own value), and no responder is worth more than a best
    response: the sum over chairs of the responders' gains is at most NashConv, for any number of players and any sum.
    With two players and zero sum the own values cancel, and what remains is the sum of the responders' returns.
    """

    responses: tuple[Response, ...]
    estimate: float
    """The sum of the gains."""
    lower: float
    """One-sided 95% confidence bound by the normal approximation of the mean over deals."""
    lower_any: float | None
    """One-sided 95% confidence bound for any distribution of returns in their range (the empirical Bernstein
    inequality, Maurer and Pontil 2009, theorem 4); None where the range is not known."""

    @classmethod
    def of(cls, own: Sequence[Episode], against: Sequence[Sequence[Episode]], worst: float | None) -> LowerBound:
        """From games that began from the same deals. `worst`: the lowest return of a two-player zero-sum game."""
        gains = [
            [theirs.returns[chair] - mine.returns[chair] for theirs, mine in zip(games, own, strict=True)]
            for chair, games in enumerate(against)
        ]
        sums = [sum(deal) for deal in zip(*gains, strict=True)]
        responses = tuple(_response(player, own, games, gains[player]) for player, games in enumerate(against))
        lower = fmean(sums) - ONE_SIDED_95 * _standard_error(sums)
        return cls(responses, fmean(sums), lower, None if worst is None else _bernstein(sums, 4 * abs(worst)))


def _response(player: int, own: Sequence[Episode], games: Sequence[Episode], gains: Sequence[float]) -> Response:
    returns = [episode.returns[player] for episode in games]
    return Response(
        player,
        fmean(returns),
        TWO_SIDED_95 * _standard_error(returns),
        fmean(episode.returns[player] for episode in own),
        fmean(gains),
        TWO_SIDED_95 * _standard_error(gains),
    )


def _standard_error(values: Sequence[float]) -> float:
    return math.sqrt(variance(values) / len(values)) if len(values) > 1 else math.inf


def _bernstein(values: Sequence[float], width: float, delta: float = 0.05) -> float:
    """Below the mean of the distribution with probability 1 - delta, for values in an interval of this width."""
    if len(values) < 2:
        return -math.inf
    log = math.log(2 / delta)
    spread = math.sqrt(2 * variance(values) * log / len(values))
    return fmean(values) - spread - 7 * width * log / (3 * (len(values) - 1))
