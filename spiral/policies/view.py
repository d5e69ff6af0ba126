"""The pool as an opponent sampler sees it: from the side of the learner that a game is played for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spiral.api.policies import Rating
from spiral.api.records import PolicyId
from spiral.policies.results import Results

if TYPE_CHECKING:
    from spiral.policies.pool import Pool


@dataclass(frozen=True)
class LearnerResults:
    """See `spiral.api.policies.ResultsView`."""

    _results: Results
    _learner: PolicyId

    def score(self, game: str, opponent: PolicyId) -> float:
        return self._results.score(game, opponent, self._learner)

    def rating(self, game: str, policy: PolicyId) -> Rating:
        return self._results.rating(game, policy)


@dataclass(frozen=True)
class View:
    """See `spiral.api.policies.PoolView`."""

    _pool: Pool
    learner: PolicyId

    @property
    def learners(self) -> list[PolicyId]:
        return list(self._pool.learners)

    @property
    def snapshots(self) -> list[PolicyId]:
        return self._pool.snapshots(self.learner)

    @property
    def results(self) -> LearnerResults:
        return LearnerResults(self._pool.results, self.learner)

    def snapshots_of(self, learner: PolicyId) -> list[PolicyId]:
        return self._pool.snapshots(learner)

    def members(self, game: str) -> list[PolicyId]:
        return self._pool.members(game)

    def opponents(self, game: str) -> list[PolicyId]:
        others = [learner for learner in self._pool.learners if learner != self.learner]
        past = [policy for learner in (self.learner, *others) for policy in self._pool.snapshots(learner)]
        return past + self._pool.members(game)

    def named(self, name: str) -> PolicyId | None:
        return self._pool.named(name)

    def bot(self, name: str, **args: Any) -> PolicyId:
        return self._pool.bot(name, **args)
