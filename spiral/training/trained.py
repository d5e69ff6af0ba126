"""One policy in training: what of a step's games it learns from, and its update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import RunError
from spiral.api.records import Episode, PolicyId, learner_name
from spiral.api.training import Engine, Learner
from spiral.config.schema import Config
from spiral.learning.distributed import Processes
from spiral.learning.packing import Batch, pack
from spiral.learning.row_cost import RowCost
from spiral.runs import checkpoints, metric_names
from spiral.seeds import derive
from spiral.training.experience import Credit, Experience


@dataclass
class TrainedPolicy:
    """A policy with its learner and its settings; whichever policy plays in a game is trained on its part of it."""

    policy: PolicyId
    config: Config
    """The run's, with the learner's settings and the estimator that this policy has."""
    learner: Learner
    reset_every: int = 0
    """Steps after which it goes back to its first weights; 0 is never."""

    @property
    def name(self) -> str:
        """In the config; empty for the main one."""
        return learner_name(self.policy)

    def credit(self, experience: Experience, episodes: Sequence[Episode]) -> Credit:
        """What of a step's games it learns from. Raises RunError where it played in none."""
        played = [episode for episode in episodes if self.policy in episode.policies]
        if not played:
            raise RunError(
                f"no game of the step had '{self.policy}' as a player, so it would not be trained; raise its share in "
                "learners, or take an opponent sampler that seats it"
            )
        trajectories = [t for episode in played for t in episode.trajectories if t.policy == self.policy]
        return Credit(played, trajectories, experience.advantages(self.policy, trajectories))

    def batch(self, credit: Credit, step: int, processes: Processes, cost: RowCost) -> Batch:
        """This process's part of its update."""
        own = [self.name] if self.name else []
        return pack(
            credit.trajectories,
            credit.advantages,
            self.config.learner.micro_batch_tokens,
            processes.rank,
            processes.world,
            minibatches=self.config.learner.minibatches,
            seed=derive(self.config.seed, "minibatches", *own, step),
            cost=cost,
        )

    def publish(self, engine: Engine, version: int) -> None:
        """Let it play with the weights that it has now."""
        engine.load_weights(self.policy, self.learner.weights(), version=version)

    def named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Its metrics under its name; the main one's as they are."""
        return {metric_names.of_learner(self.name, metric): value for metric, value in metrics.items()}

    def resets(self, step: int) -> bool:
        """Whether it goes back to its first weights before a step."""
        return bool(self.reset_every) and step > 0 and step % self.reset_every == 0

    def reset(self, first: Path) -> None:
        """Go back to the weights, and the state of the optimiser, that `first` keeps."""
        checkpoints.restore_learner(first, self.learner)
