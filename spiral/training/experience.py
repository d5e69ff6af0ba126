"""Where the games of a step come from: played by the learner, or read from a file of what other policies played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from spiral.api.errors import RunError
from spiral.api.progress import Progress
from spiral.api.records import LEARNER, Episode, PolicyId, Trajectory, Turn, VoidedGame
from spiral.api.training import RecordsEpisodes
from spiral.cluster.orders import Span
from spiral.config.schema import Config
from spiral.evaluation.held_out import held_out, held_out_metrics
from spiral.learning.credit import advantages_of, shaped
from spiral.learning.distributed import Processes
from spiral.learning.recorded_games import RecordedGames
from spiral.models.fingerprint import read_from
from spiral.plugins.faults import blamed
from spiral.policies.pool import Pool
from spiral.selfplay.examples import read_examples
from spiral.selfplay.rollouts import Rollouts, check_voided
from spiral.selfplay.setup import PlaySetup, TrainingSetup, curriculum_name, estimators, sampler_names
from spiral.training.health.indicators import vital_signs
from spiral.training.metrics import summarise


class Credit(NamedTuple):
    """What one policy learns from in a step."""

    episodes: Sequence[Episode]
    """The games in which it played."""
    trajectories: Sequence[Trajectory]
    """Its own in them."""
    advantages: Sequence[Sequence[float]]
    """`advantages[i][k]`: of turn k of trajectory i."""


class Experience(Protocol):
    """The games that a run learns from. Every process of a run asks alike, and is given the same."""

    @property
    def voided(self) -> Sequence[VoidedGame]:
        """The games of the last step that were voided."""

    @property
    def read_from(self) -> Mapping[str, str]:
        """What it was read from: name -> fingerprint. A run that goes on must find the same."""

    def episodes(self, step: int) -> list[Episode]:
        """The games of a step; in each a policy in training is a player."""

    def advantages(self, policy: PolicyId, trajectories: Sequence[Trajectory]) -> Sequence[Sequence[float]]:
        """`out[i][k]`: the weight of turn k of trajectory i in the objective of a policy, whose trajectories they
        are."""

    def metrics(self, step: int, policy: PolicyId, credit: Credit) -> dict[str, float]:
        """What a step's games tell of a policy in training, and what it learns from."""

    def evaluate(self, scorer: Any, step: int) -> dict[str, float]:
        """What the games tell of the weights of a step, that `scorer` scores with, see `Learner.scorer`."""

    def take_spans(self) -> Sequence[Span]:
        """What other processes did for it since this was last asked."""

    def samples(self, policy: PolicyId, step: int) -> list[dict[str, Any]]:
        """What `policy`, the weights of a step in the engine, says outside of games: records of samples.jsonl."""


class StepGames(Protocol):
    """Plays a process's part of the games of a step."""

    @property
    def voided(self) -> list[VoidedGame]:
        """The games of the last step that were voided."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of how the last step was played."""

    def of_step(self, step: int) -> list[Episode]:
        """In the order of the games' numbers. Raises SpiralError."""

    def take_spans(self) -> Sequence[Span]:
        """What other processes did since this was last asked."""


class LocalGames:
    """Played in this process, one step after another."""

    metrics: Mapping[str, float] = MappingProxyType({})

    def __init__(self, config: Config, rollouts: Rollouts, processes: Processes) -> None:
        self._config, self._rollouts, self._processes = config, rollouts, processes

    @property
    def voided(self) -> list[VoidedGame]:
        return self._rollouts.voided

    def of_step(self, step: int) -> list[Episode]:
        config, processes = self._config, self._processes
        seed = (config.seed, "rollout", step)
        return self._rollouts.play(config.rollout.episodes, seed, processes.rank, processes.world)

    def take_spans(self) -> Sequence[Span]:
        return []


def alike(trajectories: Sequence[Trajectory]) -> list[list[float]]:
    """The weights of turns that are all to become likelier: 1 for each."""
    return [[1.0] * len(trajectory.turns) for trajectory in trajectories]


class Played:
    """The learners' own games, played with the weights as they are."""

    read_from: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, config: Config, games: StepGames, training: TrainingSetup, pool: Pool, processes: Processes
    ) -> None:
        self._config, self._games, self._training = config, games, training
        self._pool, self._processes = pool, processes
        self.voided: Sequence[VoidedGame] = ()
        self._estimators = {policy: own.name for policy, own in estimators(config).items()}

    def episodes(self, step: int) -> list[Episode]:
        """From all processes, with rewards shaped, and their results known to pool and samplers."""
        config, processes = self._config, self._processes
        samplers = " or ".join(sampler_names(config))
        with processes.together():
            episodes = self._games.of_step(step)
        episodes, voided = processes.gathered(episodes, self._games.voided, config.rollout.group_size)
        # A process stops by itself at its own games; what is allowed is that many of all.
        check_voided(voided, config.rollout)
        self.voided = voided
        learners = {*self._pool.learners}
        if any(learners.isdisjoint(episode.policies) for episode in episodes):
            raise RunError(
                f"{samplers} gave a line-up without the learner; every game needs the learner as at least one "
                "player, or the step would train on less than it asked for"
            )
        episodes = shaped(episodes, self._training.rewards, [plugin.name for plugin in config.rewards])
        # Every process records the same episodes in the same order, so that all have the same pool and samplers.
        self._pool.results.record(episodes)
        for recorder, name in (
            (self._training.opponents, samplers),
            (self._training.curriculum, curriculum_name(config)),
        ):
            if isinstance(recorder, RecordsEpisodes):
                with blamed(f"{name}, in record(episode),"):
                    for episode in episodes:
                        recorder.record(episode)
        return episodes

    def advantages(self, policy: PolicyId, trajectories: Sequence[Trajectory]) -> Sequence[Sequence[float]]:
        return advantages_of(self._training.advantages[policy], trajectories, self._estimators[policy])

    def metrics(self, step: int, policy: PolicyId, credit: Credit) -> dict[str, float]:
        own = dict(self._games.metrics) if policy == LEARNER else {}
        return summarise(*credit) | vital_signs(*credit, policy) | self._pool.metrics(policy) | own

    def evaluate(self, scorer: Any, step: int) -> dict[str, float]:
        return {}

    def take_spans(self) -> Sequence[Span]:
        return self._games.take_spans()

    def samples(self, policy: PolicyId, step: int) -> list[dict[str, Any]]:
        return []


class Recorded:
    """Games of other policies, whose every reply is to become likelier."""

    voided: Sequence[VoidedGame] = ()

    def __init__(self, config: Config, play: PlaySetup, progress: Progress) -> None:
        """Raises SpiralError for a file that cannot be read, or without a game that the learner has room for."""
        examples, c = config.examples, config.learner
        anchored = c.anchor > 0 and c.anchor_to == "legal"
        self.read_from: Mapping[str, str] = read_from({"path": examples.path})
        read = read_examples(Path(examples.path))
        self._prompter = play.completer.prompter
        self._games = RecordedGames(read, play.completer, examples, config.seed, anchored, progress)
        self._num_games, self._micro_batch_tokens = config.rollout.episodes, c.micro_batch_tokens

    def episodes(self, step: int) -> list[Episode]:
        return self._games.of_step(step, self._num_games)

    def advantages(self, policy: PolicyId, trajectories: Sequence[Trajectory]) -> Sequence[Sequence[float]]:
        return alike(trajectories)

    def metrics(self, step: int, policy: PolicyId, credit: Credit) -> dict[str, float]:
        left_out = self._games.left_out
        return {
            "examples/epoch": (step + 1) * self._num_games / self._games.num_games,
            "examples/turns": float(sum(map(len, credit.advantages))),
            "examples/left_out": float(left_out.examples if left_out else 0),
        }

    def evaluate(self, scorer: Any, step: int) -> dict[str, float]:
        episodes = self._games.held_out()
        return held_out_metrics(held_out(scorer, episodes, self._num_answer, self._micro_batch_tokens))

    def take_spans(self) -> Sequence[Span]:
        return []

    def samples(self, policy: PolicyId, step: int) -> list[dict[str, Any]]:
        return []

    def _num_answer(self, turn: Turn) -> int:
        """How many ids at the end of a reply say its move: those that the reply without thoughts ends with too."""
        bare = self._prompter.write(turn.move or "") or ()
        num = 0
        while num < min(len(bare), len(turn.reply)) and bare[-1 - num] == turn.reply[-1 - num]:
            num += 1
        return num
