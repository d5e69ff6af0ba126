"""The training loop: play, assign credit, learn, and measure what it came to."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import cast

from spiral.api.errors import RunError
from spiral.api.games import has_perfect_information
from spiral.api.progress import Progress
from spiral.api.text import printable_logger
from spiral.api.training import Stateful
from spiral.config.loading import dump
from spiral.config.schema import Config
from spiral.learning.row_cost import RowCost
from spiral.learning.stop_signals import StopRequested, StopSignals
from spiral.plugins.registry import Plugins
from spiral.policies.identity import check_same_models
from spiral.reports.html.document import write_report
from spiral.runs import checkpoints
from spiral.runs.directory import RunDir
from spiral.training.components import Elsewhere, make_components
from spiral.training.health.first_steps import FirstSteps
from spiral.training.health.monitor import HealthMonitor
from spiral.training.recorder import Recorder
from spiral.training.recovery import Recovery
from spiral.training.step import evaluate, keep_first, learn, reset_policies, take_snapshots
from spiral.training.stopwatch import Stopwatch

log = printable_logger(__name__)


class Training:
    """Holds the components of a run and executes its steps."""

    def __init__(
        self,
        config: Config,
        run: RunDir,
        plugins: Plugins,
        progress: Progress,
        fresh: bool,
        stop: StopSignals,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.config, self.run, self._fresh, self._stop = config, run, fresh, stop
        self.components = make_components(config, plugins, progress, fresh, stop, elsewhere)
        setup = self.components.play
        setup.pool.keep_in(run.bots, has_single=elsewhere is None)
        open_games = [name for name, make in setup.games.items() if has_perfect_information(make())]
        self.monitors = {
            one.name: HealthMonitor(health, config.evaluate.matches, open_games)
            for one in self.components.trained
            for health in [replace(config.health, action="note") if one.name else config.health]
        }
        show = partial(setup.tokenizer.decode, skip_special_tokens=False)
        self.first_steps = FirstSteps(config, show)
        self.recovery = Recovery(self.components, run, self.monitors, self.first_steps, plugins.hook)
        self.recorder = Recorder(config, run, show, plugins.hook, self.components.processes.is_main)
        self.watch = Stopwatch()
        self.row_cost = RowCost.of(setup.model)

    def loop(self, start: int) -> None:
        """Steps `start` to the last. Line s of the metrics tells of weights version s: how they played, what they
        are worth, and how the update that ended them went."""
        config, watch, c = self.config, self.watch, self.components
        for one in c.trained:
            one.publish(c.engine, start)
        if self._fresh:
            keep_first(c, self.run)
        if config.health.action == "rollback" and self._fresh:
            self.recovery.save(start)  # so that a collapse before the first checkpoint has somewhere to go back to
        step = start
        while step < config.steps:
            if config.pool.every and step % config.pool.every == 0:
                take_snapshots(c, self.run, step)
            reset_policies(c, self.run, step)
            due = config.evaluate.every and step % config.evaluate.every == 0
            with self._kept_if_stopped(step):
                metrics = self.evaluate(step) if due else {}
                with watch("rollout"):
                    episodes = c.experience.episodes(step)
            with watch("credit"):
                credits = [one.credit(c.experience, episodes) for one in c.trained]
            with watch("learner"):
                updates = learn(c, credits, step, self.row_cost)
            for one, credit, update in zip(c.trained, credits, updates, strict=True):
                metrics |= one.named(c.experience.metrics(step, one.policy, credit) | update.metrics)
            self._stop.takes_s = watch.seconds("learner") + self.recovery.save_s
            reply_tokens, sequence_tokens = (sum(sizes) for sizes in zip(*(u.num_tokens for u in updates), strict=True))
            metrics |= watch.metrics(len(episodes), reply_tokens, sequence_tokens)
            self.recorder.step(step, metrics, episodes, c.experience.voided, credits)
            self.recorder.timeline(step, watch.take_spans(), c.experience.take_spans())
            self.recovery.note(self.first_steps.look(step, credits[0].trajectories, credits[0].advantages))
            if self.recovery.must_roll_back(step, metrics):
                step = self.recovery.roll_back(step)
                continue
            step += 1
            if step % config.checkpoint.every == 0 or step == config.steps:
                self.recovery.save(step)
        if config.evaluate.every:
            with self._kept_if_stopped(config.steps):
                metrics = self.evaluate(config.steps)
            self.recorder.metrics(config.steps, metrics)
        self.recorder.finish()

    @contextmanager
    def _kept_if_stopped(self, step: int) -> Iterator[None]:
        """A block that a signal may end: a checkpoint of `step` is written then, as the run was before the block."""
        bots = self.components.pool.bots()
        before = {policy: deepcopy(bot.state) for policy, bot in bots.items() if isinstance(bot, Stateful)}
        try:
            yield
        except StopRequested:
            if self._stop.num_received > 1:  # it may have struck where the run is between two states
                raise
            for policy, state in before.items():
                cast(Stateful, bots[policy]).state = state
            self.recovery.save_once(step)
            raise

    def evaluate(self, step: int) -> dict[str, float]:
        """What the weights of `step` are worth."""
        with self.watch("eval"):
            return evaluate(self.components, self.run, step)


def train(
    config: Config,
    run: RunDir,
    plugins: Plugins,
    progress: Progress,
    resume: bool,
    stop: StopSignals | None = None,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Train until the last step, from the newest checkpoint when resuming. `elsewhere`: where games are played, if not
    in this process.

    `stop`: the signals that may stop it. A step's games are given up then, an update is finished, a checkpoint is
    written, and StopRequested is raised; at the second signal it is raised at once.
    """
    stop = stop or StopSignals()
    for logger in config.loggers:
        plugins.observe_with(plugins.make("logger", logger.name, run.path, **logger.args), logger.name)
    if resume:
        checkpoints.recover(run)
    paths = run.checkpoint_paths() if resume else []
    training = Training(config, run, plugins, progress, not paths, stop, elsewhere)
    read_from = {**training.components.play.read_from, **training.components.experience.read_from}
    check_same_models(run, config, read_from, training.components.processes.is_main)
    start = training.recovery.restore(paths[-1]) if paths else 0
    if start > config.steps:
        raise RunError(f"{run.path} is already at step {start}, and steps is {config.steps}; ask for more steps")
    is_main = training.components.processes.is_main
    if is_main:
        if resume and not paths:
            log.warning("%s has no checkpoint yet, so it starts over at step 0", run.path)
        run.rewind(start)
        run.write_events(training.recovery.events)
        run.write("config.yaml", dump(config))  # a resumed run's overrides, now that they were accepted
        plugins.hook.run_started(config=asdict(config), run_dir=run.path)
    # Each step makes and drops a hundred thousand small records; what is alive now would be searched again each time
    # that the collector runs, which costs a quarter of a tiny model's step.
    gc.collect()
    gc.freeze()
    try:
        training.loop(start)
    except BaseException:
        # Whatever stopped the run, what it learned so far can be looked at.
        if is_main and stop.num_received < 2:
            with suppress(Exception):
                write_report(Path(run.path))
        raise
    finally:
        gc.unfreeze()  # a notebook goes on, and its next run needs the memory of this one
        training.components.processes.close()
