"""How the policies do against each other: tallies, recent scores and ratings; it knows no game's rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openskill.models import PlackettLuce

from spiral.api.records import LEARNER, Episode, PolicyId

RATED = 64
"""Episodes of a step that change ratings, spread over it: rating all would cost more than playing a tiny game."""
MEMORY = 200
"""Games over which a recent score forgets."""

_MODEL = PlackettLuce()


@dataclass(frozen=True)
class Rating:
    """A Plackett-Luce skill (openskill; Weng and Lin, JMLR 12, 2011): a normal belief on a scale where a new player
    has mu 25, sigma 25/3."""

    mu: float = 25.0
    sigma: float = 25.0 / 3.0

    @property
    def low(self) -> float:
        """mu - 3 sigma: what the player is worth with near certainty, as TrueSkill's tables rank."""
        return self.mu - 3 * self.sigma


class Ledger:
    """Results between policies, by game. `state` is what a checkpoint keeps.

    Games of a policy against itself leave tallies only: they tell nothing about who is better.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"tallies": {}, "recent": {}, "ratings": {}}

    def record(self, episodes: Sequence[Episode]) -> None:
        """Add finished games, in their order."""
        told: list[Episode] = []
        for episode in episodes:
            tallies = self.state["tallies"].setdefault(episode.game, {})
            for player, policy in enumerate(episode.policies):
                others = "+".join(p for i, p in enumerate(episode.policies) if i != player)
                tally = tallies.setdefault(policy, {}).setdefault(others, {}).setdefault(str(player), [0, 0, 0])
                tally[outcome(episode, player)] += 1
            if len(set(episode.policies)) > 1:
                told.append(episode)
                self._remember(episode)
        for episode in told[:: max(1, math.ceil(len(told) / RATED))]:
            self._rate(episode)

    def tally(self, game: str, policy: PolicyId, others: Iterable[PolicyId], player: int) -> tuple[int, int, int]:
        """Wins, draws and losses of `policy` at chair `player` against `others` at the chairs that are left."""
        by_chair = self.state["tallies"].get(game, {}).get(policy, {}).get("+".join(others), {})
        wins, draws, losses = by_chair.get(str(player), (0, 0, 0))
        return wins, draws, losses

    def score(self, game: str, opponent: PolicyId) -> float:
        """The learner's recent share of wins over `opponent`, draws as halves; 1/2 before any game.

        An average over about the last MEMORY games, drawn towards 1/2 as if one win and one loss had come before.
        """
        total, weight = self.state["recent"].get(game, {}).get(opponent, (0.0, 0.0))
        return float((total + 1.0) / (weight + 2.0))

    def num_recent(self, game: str, opponent: PolicyId) -> float:
        """How many games `score` rests on, the forgotten ones not counted."""
        return float(self.state["recent"].get(game, {}).get(opponent, (0.0, 0.0))[1])

    def rating(self, game: str, policy: PolicyId) -> Rating:
        """The policy's rating in a game; that of a new player if it never met another policy there."""
        return Rating(*self.state["ratings"].get(game, {}).get(policy, ()))

    def rated(self, game: str) -> dict[PolicyId, Rating]:
        """All that met another policy in `game`."""
        return {policy: Rating(*pair) for policy, pair in self.state["ratings"].get(game, {}).items()}

    def inherit(self, policy: PolicyId, parent: PolicyId) -> None:
        """Give a policy that is a copy of another the other's ratings."""
        for ratings in self.state["ratings"].values():
            if parent in ratings:
                ratings[policy] = list(ratings[parent])

    def forget(self, policy: PolicyId) -> None:
        """Drop the ratings and recent scores of a policy that plays no more; its tallies stay."""
        for kind in ("ratings", "recent"):
            for known in self.state[kind].values():
                known.pop(policy, None)

    def _remember(self, episode: Episode) -> None:
        recent = self.state["recent"].setdefault(episode.game, {})
        for opponent, score in _scores(episode):
            total, weight = recent.get(opponent, (0.0, 0.0))
            kept = 1 - 1 / MEMORY
            recent[opponent] = [total * kept + score, weight * kept + 1]

    def _rate(self, episode: Episode) -> None:
        ratings = self.state["ratings"].setdefault(episode.game, {})
        # A policy at several chairs is rated by its best one, or it would play against itself.
        best: dict[PolicyId, float] = {}
        for policy, got in zip(episode.policies, episode.returns, strict=True):
            best[policy] = max(got, best.get(policy, -math.inf))
        teams = [[_MODEL.rating(*ratings.get(policy, (25.0, 25.0 / 3.0)))] for policy in best]
        rated = _MODEL.rate(teams, scores=list(best.values()))
        for policy, (skill,) in zip(best, rated, strict=True):
            ratings[policy] = [skill.mu, skill.sigma]


def _scores(episode: Episode) -> Iterator[tuple[PolicyId, float]]:
    """(opponent, 1 for the learner's win, 0.5, 0) of each pair of chairs between the learner and another policy."""
    mine = [r for policy, r in zip(episode.policies, episode.returns, strict=True) if policy == LEARNER]
    for policy, theirs in zip(episode.policies, episode.returns, strict=True):
        if policy != LEARNER:
            for got in mine:
                yield policy, 0.5 + 0.5 * ((got > theirs) - (got < theirs))


def outcome(episode: Episode, player: int) -> int:
    """0 for a win, 1 for a draw, 2 for a loss: the player's return against the best of the others'.

    With one player, the sign of the return.
    """
    others = [r for i, r in enumerate(episode.returns) if i != player]
    best = max(others, default=0.0)
    mine = episode.returns[player]
    return 0 if mine > best else 1 if mine == best else 2
