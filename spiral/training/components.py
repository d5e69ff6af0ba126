"""The parts of a run that play and learn, made once from its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from spiral.api.errors import RunError
from spiral.api.progress import Phase, Progress
from spiral.api.records import learner_id, learner_name
from spiral.api.training import (
    AdvantageEstimator,
    Engine,
    Learner,
    LearnerSetup,
    ReadsFeatures,
)
from spiral.config.schema import Config
from spiral.config.trained import config_of
from spiral.evaluation.benchmarks.in_training import TaskEvaluator, load_tasks
from spiral.evaluation.contamination import questions, refuse_overlap
from spiral.evaluation.evaluator import Evaluator
from spiral.evaluation.matches import MatchRunner
from spiral.learning.distributed import Processes, make_accelerator
from spiral.learning.stop_signals import StopSignals
from spiral.models.adapted import copied
from spiral.models.features import last_hidden_states
from spiral.models.tokens import spelt
from spiral.plugins.registry import Plugins, label
from spiral.policies.pool import AVERAGED, Pool
from spiral.seeds import derive
from spiral.selfplay.draws import Draws
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import (
    PlaySetup,
    TrainingSetup,
    add_members,
    curriculum_name,
    load_opponents,
    make_games,
    make_play_setup,
    make_training_setup,
    sampler_names,
    turn_record,
)
from spiral.theory.best_response import NashConv
from spiral.training.experience import Experience, LocalGames, Played, Recorded, StepGames
from spiral.training.initial_weights import warm_start_weights
from spiral.training.memory.planning import check_memory
from spiral.training.memory.settings import HeldPolicies
from spiral.training.text import Text
from spiral.training.trained import TrainedPolicy

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor


class Elsewhere(Protocol):
    """What plays and generates where that is done in other processes."""

    is_async: bool
    """Whether games go on while the learner updates."""

    def engine(self, model: Any, tokenizer: Any) -> Engine:
        """Generates for the policies in training and their snapshots."""

    def games(
        self, config: Config, draws: Draws, processes: Processes, stop: StopSignals, progress: Progress
    ) -> StepGames:
        """Plays the games of the steps."""


@dataclass
class Components:
    """Everything between a config and a step of training."""

    config: Config
    play: PlaySetup
    """What plays: games, model, tokenizer, completer, pool."""
    training: TrainingSetup
    """The plug-ins: curriculum, opponents, rewards, advantage."""
    processes: Processes
    """This process among those of the run."""
    trained: list[TrainedPolicy]
    """The policies in training, the main one first."""
    rollouts: Rollouts
    """Plays the games of a step."""
    experience: Experience
    """Where the games of a step come from."""
    evaluator: Evaluator
    """Measures weights as the config's `evaluate` asks."""
    tasks: TaskEvaluator
    """Asks them the questions of its benchmarks."""
    progress: Progress
    """Is told of every piece of work that may take long."""

    @property
    def learner(self) -> Learner:
        """Takes the updates of the main policy."""
        return self.trained[0].learner

    @property
    def engine(self) -> Engine:
        """Generates for the learners and their snapshots."""
        return self.play.completer.engine

    @property
    def pool(self) -> Pool:
        """The policies of the run, and the results between them."""
        return self.play.pool

    def nash_conv(self) -> dict[str, NashConv]:
        """Exact NashConv of the evaluated weights, for each game that can be enumerated."""
        exact = self.evaluator.exact(self.learner.scorer())
        return {game: result.theory for game, result in exact.items()}


def check_capacity(config: Config, engine: Engine, pool: Pool) -> None:
    """Raise RunError if an engine holds fewer policies with weights of their own than a run has of its model: those
    that the config asks for, and of the other models in `pool` those that are loaded into the same engine."""
    held = HeldPolicies.of(config)
    held = replace(held, others=pool.num_held(engine) - held.learners)
    capacity = getattr(engine, "capacity", None)
    if capacity is not None and held.num > capacity:
        raise RunError(
            f"engine '{config.engine.name}' holds {capacity} policies with weights of their own, and this run has "
            f"{held.num}: {held.learners} learner, {held.average} average for evaluation, {held.snapshots} snapshots, "
            f"{held.others} other runs' of the same model; set engine.args.capacity={held.num} where memory allows, or "
            "lower pool.size"
        )


def make_components(
    config: Config,
    plugins: Plugins,
    progress: Progress,
    fresh: bool,
    stop: StopSignals | None = None,
    elsewhere: Elsewhere | None = None,
) -> Components:
    """Make everything. `fresh`: give the model its initial weights, where no checkpoint will replace them. `elsewhere`:
    plays and generates in other processes.

    Raises SpiralError for what cannot be made; `spiral.selfplay.validation.check` finds most of it before.
    """
    accelerator = make_accelerator(config.process_deadline_s, config.learner)
    check_memory(config, plugins)
    processes = Processes(accelerator, stop := stop or StopSignals())
    benchmarks = load_tasks(config, plugins)  # before the model: a file that is missing is told at once
    if benchmarks:
        asked = {name: questions(make()) for name, make in make_games(config, plugins).items()}
        refuse_overlap(asked, {benchmark.label: benchmark.tasks for benchmark in benchmarks})
    progress(Phase(f"loading {label(config.model.name, config.model.args)}"))
    play = make_play_setup(config, plugins, make_engine=elsewhere.engine if elsewhere else None)
    training = make_training_setup(config, plugins)
    add_members(config, play)
    opponents = load_opponents(config, play)
    check_capacity(config, play.completer.engine, play.pool)
    if fresh:
        with processes.together():
            warm_start_weights(config, play, plugins, progress)
    # After the warm start: a learner copies the weights into its average and its reference.
    trained = [
        _trained(config, name, play, plugins, accelerator, progress, elsewhere is not None and elsewhere.is_async)
        for name in map(learner_name, play.pool.learners)
    ]
    for one in trained:
        _give_features(training.advantages[one.policy], one)
    rollouts = Rollouts(
        play.games,
        training.curriculum,
        training.opponents,
        play.pool,
        config.rollout,
        record=turn_record(config, training.advantages),
        names=(curriculum_name(config), " or ".join(sampler_names(config))),
        progress=progress,
    )
    runner = MatchRunner(play.games, play.pool, config.rollout)
    evaluator = Evaluator(play.games, opponents, runner, play.completer, config.evaluate)
    tasks = TaskEvaluator(benchmarks, play.completer, partial(spelt, play.tokenizer), config, progress)
    if any(one.learner.averaged() is not None for one in trained):
        play.pool.add_weights(AVERAGED)
    games: StepGames = LocalGames(config, rollouts, processes)
    if elsewhere is not None:
        games = elsewhere.games(config, rollouts.draws, processes, stop, progress)
    experience: Experience = Played(config, games, training, play.pool, processes)
    if config.examples.path:
        experience = Recorded(config, play, progress)
    elif config.text.paths:
        experience = Text(config, play, progress)
    return Components(config, play, training, processes, trained, rollouts, experience, evaluator, tasks, progress)


def _trained(
    config: Config,
    name: str,
    play: PlaySetup,
    plugins: Plugins,
    accelerator: Accelerator,
    progress: Progress,
    is_async: bool,
) -> TrainedPolicy:
    """A policy in training; the main one, whose name is empty, trains the model that plays itself, the others copies
    of it that are as it is now."""
    own, method = config_of(config, name), config.learner.method
    model = copied(play.model) if name else play.model
    dtype = getattr(play.completer.engine, "dtype", None)
    seed = derive(config.seed, name) if name else config.seed
    setup = LearnerSetup(model, own.learner, config.steps, accelerator, progress, dtype, seed, is_async)
    learner: Learner = plugins.make("learner", method.name, setup, **method.args)
    resets = {one.name: one.reset_every for one in config.learners}
    return TrainedPolicy(learner_id(name), own, learner, resets.get(name, 0))


def _give_features(estimator: AdvantageEstimator, one: TrainedPolicy) -> None:
    """Let an estimator that asks for it read the hidden states of the policy whose credit it assigns."""
    if isinstance(estimator, ReadsFeatures):

        def features(prompts: Sequence[tuple[int, ...]]) -> Tensor:
            # A scorer anew for each call: the live weights, those that the step was played with.
            scorer = one.learner.scorer(averaged=False)
            return last_hidden_states(scorer, prompts, one.config.learner.micro_batch_tokens)

        estimator.features = features
