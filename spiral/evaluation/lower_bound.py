"""The lower bound on NashConv that learned best responses prove, from games against the frozen policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from spiral.api.records import Episode, PolicyId
from spiral.evaluation.matches import MatchRunner
from spiral.theory.intervals import ONE_SIDED_95, mean_interval, plausible_range


@dataclass(frozen=True)
class FrozenOpponents:
    """The frozen policy as every player of a game but one."""

    runner: MatchRunner
    game: str
    num_players: int
    frozen: PolicyId

    def play(self, policy: PolicyId, player: int, num_games: int, seed: Sequence[int | str]) -> list[Episode]:
        """Games with `policy` as one player. Equal seeds give equal deals, whatever the line-up."""
        policies = [policy if other == player else self.frozen for other in range(self.num_players)]
        return self.runner.play(self.game, policies, num_games, seed)

    def choose(self, candidates: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]) -> list[PolicyId]:
        """For each player, the candidate with the highest mean return; a later one where they tie."""
        if len(candidates) == 1:
            return [candidates[0]] * self.num_players
        chosen = []
        for player in range(self.num_players):
            means = [
                fmean(e.returns[player] for e in self.play(candidate, player, num_games, seed))
                for candidate in candidates
            ]
            chosen.append(max(zip(means, range(len(means)), candidates, strict=True))[2])
        return chosen

    def measure(
        self, responders: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]
    ) -> tuple[list[Episode], list[list[Episode]]]:
        """The frozen policy against itself, and each player's responder against it, all from the same deals."""
        own = self.play(self.frozen, 0, num_games, seed)
        return own, [self.play(policy, player, num_games, seed) for player, policy in enumerate(responders)]


@dataclass(frozen=True)
class Response:
    """What a responder gets as one player; `low` and `high` are the ends of 95% intervals."""

    player: int
    mean_return: float
    return_low: float
    return_high: float
    frozen_return: float
    """What the frozen policy gets there against itself."""
    gain: float
    """The difference, deal by deal: no more, but for chance, than a best response would gain."""
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class LowerBound:
    """The lower bound on NashConv that responders prove.

    NashConv is the sum over players of (best response value - own value), and no responder is worth more than a best
    response: the sum over players of the responders' gains is at most NashConv, for any number of players and any sum.
    With two players and zero sum the own values cancel, and what remains is the sum of the responders' returns.
    """

    responses: tuple[Response, ...]
    estimate: float
    """The sum of the gains."""
    lower: float
    """One-sided 95% confidence bound (`mean_interval` of the deals)."""
    lower_any: float | None
    """One-sided 95% confidence bound for any distribution of returns in their range (the empirical Bernstein
    inequality, Maurer and Pontil 2009, theorem 4); None where the range is not known."""

    @classmethod
    def of(
        cls, own: Sequence[Episode], against: Sequence[Sequence[Episode]], bounds: tuple[float, float | None]
    ) -> LowerBound:
        """From games that began from the same deals. `bounds` of the returns, as `return_bounds` gives them."""
        gains = [
            [response.returns[player] - frozen.returns[player] for response, frozen in zip(games, own, strict=True)]
            for player, games in enumerate(against)
        ]
        sums = [sum(deal) for deal in zip(*gains, strict=True)]
        seen = [amount for episode in [*own, *(e for games in against for e in games)] for amount in episode.returns]
        lowest, highest = plausible_range(seen, *bounds)
        responses = tuple(
            _response(player, own, games, gains[player], (lowest, highest)) for player, games in enumerate(against)
        )
        # With two players and zero sum what the frozen policy gets cancels, and two returns are left of the four.
        zero_sum = bounds[1] is not None and len(against) == 2
        most = len(against) * (highest - lowest)
        limits = (2 * lowest, 2 * highest) if zero_sum else (-most, most)
        estimate, lower, _ = mean_interval(sums, *limits, ONE_SIDED_95)
        return cls(responses, estimate, lower, _bernstein(sums, limits[1] - limits[0]) if zero_sum else None)


def _response(
    player: int, own: Sequence[Episode], games: Sequence[Episode], gains: Sequence[float], extent: tuple[float, float]
) -> Response:
    returns = [episode.returns[player] for episode in games]
    width = extent[1] - extent[0]
    frozen = fmean(episode.returns[player] for episode in own)
    return Response(player, *mean_interval(returns, *extent), frozen, *mean_interval(gains, -width, width))


def _bernstein(values: Sequence[float], width: float, delta: float = 0.05) -> float:
    """Below the mean of the distribution with probability 1 - delta, for values in an interval of this width."""
    if len(values) < 2:
        return -math.inf
    log = math.log(2 / delta)
    spread = math.sqrt(2 * variance(values) * log / len(values))
    return fmean(values) - spread - 7 * width * log / (3 * (len(values) - 1))
