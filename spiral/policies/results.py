"""How the policies did against each other: recent scores and ratings, by game."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from spiral.api.policies import Rating
from spiral.api.records import LEARNER, Episode, PolicyId, outcome
from spiral.theory.ratings import rate

RATED = 64
"""Episodes of a step that change ratings, spread over it: rating all would cost more than playing a tiny game."""
MEMORY = 200
"""Games over which a recent score forgets."""


class Results:
    """Results between policies. `state` is what a checkpoint keeps.

    Games of a policy against itself leave no trace: they tell nothing about which policy is better.
    """

    def __init__(self, learners: Sequence[PolicyId] = (LEARNER,)) -> None:
        """`learners`: those whose scores are kept."""
        self.learners = tuple(learners)
        self.state: dict[str, Any] = {"recent": {}, "ratings": {}}

    def record(self, episodes: Sequence[Episode]) -> None:
        """Add finished games, in their order."""
        between = [episode for episode in episodes if len(set(episode.policies)) > 1]
        for episode in between:
            self._remember(episode)
        for episode in between[:: max(1, math.ceil(len(between) / RATED))]:
            self._rate(episode)

    def score(self, game: str, opponent: PolicyId, learner: PolicyId = LEARNER) -> float:
        """A learner's recent share of wins over `opponent`, draws as halves; 1/2 before any game.

        An average over about the last MEMORY games, drawn towards 1/2 as if one win and one loss had come before.
        """
        total, weight = self._recent(game, opponent, learner)
        return float((total + 1.0) / (weight + 2.0))

    def num_recent(self, game: str, opponent: PolicyId, learner: PolicyId = LEARNER) -> float:
        """How many games `score` rests on, the forgotten ones not counted."""
        return float(self._recent(game, opponent, learner)[1])

    def _recent(self, game: str, opponent: PolicyId, learner: PolicyId) -> Sequence[float]:
        known: Sequence[float] = self.state["recent"].get(game, {}).get(learner, {}).get(opponent, (0.0, 0.0))
        return known

    def rating(self, game: str, policy: PolicyId) -> Rating:
        """The policy's rating in a game; that of a new player if it never met another policy there."""
        return Rating(*self.state["ratings"].get(game, {}).get(policy, ()))

    def rated(self, game: str) -> dict[PolicyId, Rating]:
        """All policies that met another one in `game`."""
        return {policy: Rating(*pair) for policy, pair in self.state["ratings"].get(game, {}).items()}

    def rated_games(self) -> list[str]:
        """The games in which policies met."""
        return list(self.state["ratings"])

    def inherit(self, policy: PolicyId, parent: PolicyId) -> None:
        """Give a policy that is a copy of another the other's ratings."""
        for ratings in self.state["ratings"].values():
            if parent in ratings:
                ratings[policy] = list(ratings[parent])

    def forget(self, policy: PolicyId) -> None:
        """Drop the ratings and recent scores of a policy that plays no more."""
        scores = [of_learner for by_learner in self.state["recent"].values() for of_learner in by_learner.values()]
        for known in (*self.state["ratings"].values(), *scores):
            known.pop(policy, None)

    def _remember(self, episode: Episode) -> None:
        for learner in self.learners:
            for opponent, score in _scores(episode, learner):
                recent = self.state["recent"].setdefault(episode.game, {}).setdefault(learner, {})
                total, weight = recent.get(opponent, (0.0, 0.0))
                decay = 1 - 1 / MEMORY
                recent[opponent] = [total * decay + score, weight * decay + 1]

    def _rate(self, episode: Episode) -> None:
        ratings = self.state["ratings"].setdefault(episode.game, {})
        before = [Rating(*ratings.get(policy, ())) for policy in episode.policies]
        after: dict[PolicyId, list[Rating]] = {}
        for policy, rating in zip(episode.policies, rate(before, episode.returns), strict=True):
            after.setdefault(policy, []).append(rating)
        # The mean over a policy's players: rated by its best one, it would win more than its share by their number, and
        # rated by each in turn, it would be as sure of one game as of several.
        for policy, own in after.items():
            ratings[policy] = [fmean(r.mu for r in own), fmean(r.sigma for r in own)]


def _scores(episode: Episode, learner: PolicyId) -> Iterator[tuple[PolicyId, float]]:
    """(opponent, the learner's score against it) of each pair of players of the learner and of another policy."""
    learner_returns = [r for policy, r in zip(episode.policies, episode.returns, strict=True) if policy == learner]
    for policy, reward in zip(episode.policies, episode.returns, strict=True):
        if policy != learner:
            for own in learner_returns:
                yield policy, outcome(own, reward)
