"""The loop, to be read top to bottom: play, assign credit, learn, and tell the truth about it."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from spiral.api.errors import RunError
from spiral.api.games import has_perfect_information
from spiral.api.training import RecordsEpisodes
from spiral.api.records import LEARNER, Episode, Trajectory
from spiral.config.loading import dump
from spiral.config.schema import Config
from spiral.evaluation.evaluator import AVERAGED, Arena, Evaluator, exact_metrics, policy_record
from spiral.learning.full_learner import Learner
from spiral.learning.packing import pack
from spiral.learning.warm_start import Progress
from spiral.models.logits import TokenLogits
from spiral.plugins.registry import Plugins
from spiral.policies.fallback import Widened
from spiral.policies.pool import policy_of
from spiral.reports.html.document import write_report
from spiral.runs import checkpoints as checkpoint
from spiral.runs import snapshots
from spiral.runs.directory import RunDir, episode_record
from spiral.selfplay import setup as assemble
from spiral.selfplay.rollouts import Rollouts, in_order
from spiral.training.health import vital_signs
from spiral.training.health.monitor import Vigil
from spiral.training.initial_weights import first_weights
from spiral.training.metrics import Stopwatch, summarise


class Training:
    """A run in the making: its parts, made once, and what happens to them each step."""

    def __init__(self, config: Config, run: RunDir, plugins: Plugins, progress: Progress, fresh: bool) -> None:
        self.config, self.run, self.hooks, self.fresh = config, run, plugins.hook, fresh
        self.accelerator = Accelerator(mixed_precision="no")
        self.players = assemble.players(config, plugins)
        self.trainers = assemble.trainers(config, plugins)
        p = self.players
        assemble.admit_members(config, p.guests, p.pool)
        opponents = [p.guests.invite(text) for text in config.evaluate.opponents]
        if fresh:
            first_weights(config, p, plugins, progress)
        self.learner = Learner(p.model, config.learner, config.steps, self.accelerator)
        self.rollouts = Rollouts(
            p.games,
            self.trainers.curriculum,
            self.trainers.opponents,
            p.pool,
            p.engine,
            p.prompter,
            config.rollout,
        )
        arena = Arena(p.games, p.pool, p.engine, p.prompter, config.rollout)
        self.evaluator = Evaluator(p.games, opponents, arena, p.prompter, config.evaluate)
        p.pool.weighted.add(AVERAGED)
        open_games = [name for name, make in p.games.items() if has_perfect_information(make())]
        self.vigil = Vigil(config.health, config.evaluate.games, open_games)
        self.stateful = {"pool": p.pool, "health": self.vigil, **self.trainers.stateful()}
        self.watch = Stopwatch()

    def loop(self, start: int) -> None:
        """Steps `start` to the last. Line s of the metrics tells of weights version s: how they played, what they
        are worth, and how the update that ended them went."""
        config, watch = self.config, self.watch
        self.players.engine.load_weights(LEARNER, self.learner.weights(), version=start)
        if config.health.action == "rollback" and self.fresh:
            self.save(start)
        step = start
        while step < config.steps:
            if config.pool.every and step % config.pool.every == 0:
                self.snapshot(step)
            metrics = self.evaluate(step) if config.evaluate.every and step % config.evaluate.every == 0 else {}
            with watch("rollout"):
                episodes = self.play(step)
            with watch("credit"):
                trajectories = [t for e in episodes for t in e.trajectories if t.policy == LEARNER]
                advantages = self.trainers.advantage(trajectories)
                check_finite(advantages, config.advantage.name)
            with watch("learner"):
                batch = pack(trajectories, advantages, config.learner.micro_batch_tokens, *self.shard)
                stats = self.learner.update(batch, step, config.rollout.games)
                self.players.engine.load_weights(LEARNER, self.learner.weights(), version=step + 1)
            metrics |= summarise(episodes, trajectories, advantages) | stats
            metrics |= vital_signs(episodes, trajectories, advantages) | self.players.pool.metrics()
            metrics |= watch.metrics(len(episodes), batch.num_reply_tokens, batch.num_sequence_tokens)
            self.report(step, metrics, episodes, trajectories, advantages)
            if self.look(step, metrics) == "rollback":
                step = self.roll_back(step)
                continue
            step += 1
            if step % config.checkpoint.every == 0 or step == config.steps:
                self.save(step)
        if config.evaluate.every:
            self.report(config.steps, self.evaluate(config.steps), [], [], [])
        self.finish()

    @property
    def shard(self) -> tuple[int, int]:
        """This process's number, and how many there are."""
        return self.accelerator.process_index, self.accelerator.num_processes

    def play(self, step: int) -> list[Episode]:
        """The step's games, from all processes, with their rewards shaped and their results known to the pool."""
        episodes = self.rollouts.play(self.config.rollout.games, (self.config.seed, "rollout", step), *self.shard)
        if self.accelerator.num_processes > 1:
            parts = gather_object([(episodes, self.rollouts.faults)])
            episodes = in_order([part for part, _ in parts], self.config.rollout.games_per_deal)
            self.rollouts.faults = [fault for _, faults in parts for fault in faults]
        if any(LEARNER not in episode.policies for episode in episodes):
            raise RunError(
                "the opponent sampler seated nobody to train in a game of this step; at least one chair must be the "
                "learner's, or the step would train on less than it asked for"
            )
        for shape in self.trainers.rewards:
            episodes = [shape(episode) for episode in episodes]
        self.players.pool.ledger.record(episodes)
        for watcher in (self.trainers.opponents, self.trainers.curriculum):
            if isinstance(watcher, RecordsEpisodes):
                for episode in episodes:
                    watcher.record(episode)
        return episodes

    def snapshot(self, step: int) -> None:
        """Let the learner as it is now be an opponent of those to come."""
        pool, engine, asked = self.players.pool, self.players.engine, self.config.pool
        if self.accelerator.is_main_process:
            snapshots.write(self.run.snapshots, step, self.learner.weights())
        engine.load_weights(policy_of(step), self.learner.weights(), version=step)
        for policy in pool.add_snapshot(step, asked.size, asked.keep):
            engine.drop(policy)

    def restore(self, path: Path) -> int:
        """Put everything back as the checkpoint `path` has it; the step to go on with."""
        pool, engine = self.players.pool, self.players.engine
        before = {*pool.snapshots}
        step = checkpoint.restore(path, self.learner, self.stateful)
        for policy in before - {*pool.snapshots}:
            engine.drop(policy)
        for past in pool.steps:
            engine.load_weights(policy_of(past), snapshots.read(self.run.snapshots, past), version=past)
        return step

    def look(self, step: int, metrics: dict[str, float]) -> str | None:
        """Whether something collapsed, and what is to be done; raises RunError if the run is to stop."""
        event = self.vigil.look(step, metrics, self.num_rollbacks)
        if event is None:
            return None
        if self.accelerator.is_main_process:
            self.run.write_events(self.vigil.events)
            self.hooks.health_event(event=event)
        if event["action"] == "stop":
            self.save(step + 1)
            raise RunError(f"stopped at step {step}, as health.action asks: {event['sentence']}")
        return str(event["action"])

    @property
    def num_rollbacks(self) -> int:
        """How often the run went back so far."""
        return self.trainers.opponents.times if isinstance(self.trainers.opponents, Widened) else 0

    def roll_back(self, step: int) -> int:
        """Go back to the newest checkpoint before the trouble, with wider opponents; the step to go on with."""
        opponents, events = self.trainers.opponents, self.vigil.events
        assert isinstance(opponents, Widened)
        times, paths = opponents.times, checkpoint.found(self.run.checkpoints)
        target = self.vigil.detector.last_healthy(step)
        kept = [path for path in paths if checkpoint.step_of(path) <= target] or paths[:1]
        back = self.restore(kept[-1])
        events[-1]["back_to"] = back
        opponents.times, self.vigil.events = times + 1, events
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.run.set_aside(back, f"abandoned-{times + 1}.jsonl")
            checkpoint.drop([path for path in reversed(paths) if path not in kept])
        # Until this checkpoint stands, a run that is killed comes to the same collapse and goes back again.
        self.save(back)
        if self.accelerator.is_main_process:
            self.run.rewind(back)
            self.run.write_events(events)
        self.players.engine.load_weights(LEARNER, self.learner.weights(), version=back)
        return back

    def evaluate(self, step: int) -> dict[str, float]:
        """What the averaged weights are worth, and beside them the live ones."""
        with self.watch("eval"):
            exact = self.evaluator.exact(TokenLogits(self.learner.averaged_model))
            metrics = exact_metrics(exact) | exact_metrics(
                self.evaluator.exact(TokenLogits(self.learner.model)), "_live"
            )
            self.players.engine.load_weights(AVERAGED, self.learner.averaged(), version=step)
            metrics |= self.evaluator.matches(AVERAGED, (self.config.seed, "evaluate", step))
            if self.accelerator.num_processes > 1:  # a player outside may answer each process something else
                metrics = broadcast_object_list([metrics])[0]
        if self.accelerator.is_main_process:
            self.run.write("policy.json", json.dumps(policy_record(step, exact)))
        return metrics

    def report(
        self,
        step: int,
        metrics: dict[str, float],
        episodes: Sequence[Episode],
        trajectories: Sequence[Trajectory],
        advantages: Sequence[Sequence[float]],
    ) -> None:
        """Write the step down and tell the observers."""
        if not self.accelerator.is_main_process:
            return
        faults = self.rollouts.faults if episodes else []
        metrics = metrics | ({"play/voided": float(len(faults))} if episodes else {})
        metrics |= {f"play/voided: {cause}": float(n) for cause, n in sorted(Counter(f.cause for f in faults).items())}
        self.run.log(step, metrics)
        self.run.log_faults(step, faults)
        credit = {id(t): row for t, row in zip(trajectories, advantages, strict=True)}
        show = functools.partial(self.players.tokenizer.decode, skip_special_tokens=False)
        self.run.append(
            "episodes.jsonl",
            [episode_record(step, e, credit, show) for e in episodes[: self.config.checkpoint.episodes]],
        )
        self.hooks.step_finished(step=step, metrics=metrics, episodes=episodes)

    def save(self, step: int) -> None:
        """A checkpoint that the run can go on from at `step`."""
        if self.accelerator.is_main_process:
            keep, target = self.config.checkpoint.keep, self.vigil.detector.last_healthy(step)
            steps = [checkpoint.step_of(path) for path in checkpoint.found(self.run.checkpoints)]
            path = checkpoint.save(
                self.run.checkpoints,
                step,
                self.learner,
                self.players.tokenizer,
                self.stateful,
                keep,
                spare=max((s for s in steps if s <= target), default=None),
            )
            snapshots.prune(self.run.snapshots, self.players.pool.steps, checkpoint.found(self.run.checkpoints))
            self.run.write("pool.json", json.dumps(self.players.pool.table(self.players.games)))
            self.hooks.checkpoint_saved(step=step, path=path)
            write_report(self.run.path)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """The last word to the observers, and the report."""
        if self.accelerator.is_main_process:
            self.hooks.run_finished(step=self.config.steps)
            write_report(self.run.path)


def check_finite(advantages: Sequence[Sequence[float]], name: str) -> None:
    """Raise RunError for an estimator whose numbers nobody could learn from."""
    if not all(math.isfinite(a) for row in advantages for a in row):
        raise RunError(f"advantage {name} gave a number that is not finite; mend it, or use another estimator")


def train(config: Config, run: RunDir, plugins: Plugins, progress: Progress, resume: bool) -> None:
    """Train until the last step, from the newest checkpoint when resuming."""
    for logger in config.loggers:
        plugins.observe_with(plugins.make("logger", logger.name, run.path, **logger.args))
    paths = checkpoint.found(run.checkpoints) if resume else []
    training = Training(config, run, plugins, progress, fresh=not paths)
    start = training.restore(paths[-1]) if paths else 0
    if start > config.steps:
        raise RunError(f"{run.path} is already at step {start}, and steps is {config.steps}; ask for more steps")
    # Each step makes and drops a hundred thousand small records; what is alive now would be searched again each time
    # that the collector runs, which costs a quarter of a tiny model's step.
    gc.collect()
    gc.freeze()
    if training.accelerator.is_main_process:
        run.rewind(start)
        run.write_events(training.vigil.events)
        run.write("config.yaml", dump(config))  # a resumed run's overrides, now that they were accepted
        plugins.hook.run_started(config=config, run_dir=run.path)
    try:
        training.loop(start)
    except BaseException:
        # Whatever stopped the run, what it learned so far can be looked at.
        if training.accelerator.is_main_process:
            with contextlib.suppress(Exception):
                write_report(Path(run.path))
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
