"""Matches between fixed line-ups of policies, or of one alone, and what they came to, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from spiral.api.games import Game, is_zero_sum, worst_return
from spiral.api.progress import Progress, no_progress
from spiral.api.records import Episode, PolicyId, VoidedGame, outcome_of
from spiral.config.schema import RolloutConfig
from spiral.policies.pool import Pool
from spiral.selfplay.fixed_seats import FixedSeats
from spiral.selfplay.play import OnFailure
from spiral.selfplay.rollouts import Rollouts
from spiral.theory.intervals import mean_interval, plausible_range, wilson_interval


@dataclass(frozen=True)
class Tally:
    """Results of one player of one pairing."""

    wins: int
    draws: int
    losses: int
    mean_return: float
    return_low: float
    """Of the 95% interval of `mean_return`, as the next."""
    return_high: float
    illegal: int
    """Games that this player lost by an illegal move."""
    opponents_illegal: int
    """Games that another player lost by one, which this one won by no move of its own."""
    cut: int
    """Games that were cut at `rollout.max_turns`; what they are worth, `rollout.cut` says."""
    voided: Mapping[str, int]
    """Cause -> games that were voided and replaced, which no other figure counts."""

    @property
    def games(self) -> int:
        return self.wins + self.draws + self.losses

    def interval(self, count: int) -> tuple[float, float]:
        """Wilson's 95% interval of the share that `count` is of the games."""
        return wilson_interval(count, self.games)


class MatchRunner:
    """Plays matches between the policies of a pool."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        pool: Pool,
        config: RolloutConfig,
        progress: Progress = no_progress,
    ) -> None:
        self._games, self._pool, self._progress = games, pool, progress
        self._config = replace(config, group_size=1)

    def rollouts(
        self,
        game: str,
        policies: Sequence[PolicyId],
        on_failure: OnFailure = lambda policy, cause: None,
        forfeit: bool = False,
    ) -> Rollouts:
        """Rollouts of `game` with one of `policies` a player in every match; `forfeit` as in `Rollouts`."""
        seats = FixedSeats(game, policies)
        return Rollouts(
            self._games, seats, seats, self._pool, self._config, on_failure, forfeit=forfeit, progress=self._progress
        )

    def play(self, game: str, policies: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]) -> list[Episode]:
        """`num_games` episodes of `game`, one of `policies` a player."""
        return self.rollouts(game, policies).play(num_games, seed)

    def alone(self, game: str, policy: PolicyId, num_games: int, seed: Sequence[int | str]) -> Tally:
        """`num_games` of a game for one player."""
        return self._tally(game, [policy], 0, num_games, seed)

    def against(
        self, game: str, policy: PolicyId, opponent: PolicyId, num_games: int, seed: Sequence[int | str]
    ) -> list[Tally]:
        """`num_games` as each player, with the opponent as all others: one tally a player."""
        tallies = []
        num_players = self._games[game]().num_players
        for player in range(num_players):
            policies = [policy if other == player else opponent for other in range(num_players)]
            tallies.append(self._tally(game, policies, player, num_games, [*seed, player]))
        return tallies

    def _tally(
        self, game: str, policies: Sequence[PolicyId], player: int, num_games: int, seed: Sequence[int | str]
    ) -> Tally:
        rollouts = self.rollouts(game, policies)
        return tally(rollouts.play(num_games, seed), player, return_bounds(self._games[game]()), rollouts.voided)


def return_bounds(game: Game) -> tuple[float, float | None]:
    """The lowest return of a game, and the highest where it follows: what the others lose at most."""
    worst = worst_return(game)
    return worst, -worst * (game.num_players - 1) if is_zero_sum(game) else None


def tally(
    episodes: Sequence[Episode],
    player: int,
    bounds: tuple[float, float | None],
    voided: Sequence[VoidedGame] = (),
) -> Tally:
    """Count one player's results, and the games that were voided on the way; `bounds` of its returns, as
    `return_bounds` gives them."""
    results = [outcome_of(episode.returns, player) for episode in episodes]
    returns = [episode.returns[player] for episode in episodes]
    return Tally(
        results.count(1.0),
        results.count(0.5),
        results.count(0.0),
        *mean_interval(returns, *plausible_range(returns, *bounds)),
        sum(episode.offender == player for episode in episodes),
        sum(episode.offender not in (None, player) for episode in episodes),
        sum(episode.ending == "cut" for episode in episodes),
        dict(sorted(Counter(one.cause for one in voided).items())),
    )
