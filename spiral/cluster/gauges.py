"""What a step's games tell of the cluster that played them: age, tail, and whether those that are trained on are like
those that were played."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from spiral.api.records import LEARNER, Episode, Turn


def learners_turns(episodes: Iterable[Episode]) -> Iterator[Turn]:
    """The turns of policies in training."""
    for episode in episodes:
        for trajectory in episode.trajectories:
            if trajectory.policy.startswith(LEARNER):
                yield from trajectory.turns


@dataclass
class _Seen:
    """Sums over games."""

    games: int = 0
    turns: int = 0
    tokens: int = 0
    first_return: float = 0.0

    def add(self, episodes: Iterable[Episode]) -> None:
        for episode in episodes:
            self.games += 1
            self.turns += len(episode.players)
            self.tokens += sum(t.num_sampled for trajectory in episode.trajectories for t in trajectory.turns)
            self.first_return += episode.returns[0]

    def means(self, name: str) -> dict[str, float]:
        num = max(1, self.games)
        return {
            f"cluster/{name}_turns": self.turns / num,
            f"cluster/{name}_tokens": self.tokens / num,
            f"cluster/{name}_return_p0": self.first_return / num,
        }


@dataclass
class Gauges:
    """Of one run so far; a selection of games by their length or outcome would show as a difference of the means of the
    played and the trained ones."""

    played: _Seen = field(default_factory=_Seen)
    trained: _Seen = field(default_factory=_Seen)

    def metrics(self, step: int, episodes: Sequence[Episode], ended: Sequence[float], asked: float) -> dict[str, float]:
        """`ended`: when each group of the step was over. `asked`: when the learner began to wait for them."""
        self.trained.add(episodes)
        ages = [step - turn.oldest_version for turn in learners_turns(episodes)]
        order = sorted(ended)
        nine_tenths = order[int(0.9 * (len(order) - 1))]
        return {
            "cluster/staleness": sum(ages) / max(1, len(ages)),
            "cluster/staleness_max": float(max(ages, default=0)),
            "cluster/tail_s": max(0.0, order[-1] - max(nine_tenths, asked)),
            **self.played.means("played"),
            **self.trained.means("trained"),
        }
