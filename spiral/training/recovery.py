"""Checkpoints of a run, what follows a collapse, and the way back to the last healthy checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiral.api.errors import RunError
from spiral.api.progress import Phase
from spiral.api.records import PolicyId
from spiral.api.text import printable_logger
from spiral.policies.pool import snapshot_id
from spiral.reports.html.document import write_report
from spiral.runs import checkpoints, metric_names, snapshots
from spiral.runs.directory import RunDir, step_of
from spiral.training.components import Components
from spiral.training.health.detector import Collapse
from spiral.training.health.first_steps import FirstSteps
from spiral.training.health.monitor import HealthMonitor

log = printable_logger(__name__)


class Recovery:
    """Saves and restores a run. `state` is what a checkpoint keeps of it: the number of rollbacks so far."""

    def __init__(
        self,
        components: Components,
        run: RunDir,
        monitors: Mapping[str, HealthMonitor],
        first_steps: FirstSteps,
        hooks: Any,
    ) -> None:
        """`monitors`: of each policy in training, by its name. What befalls those beside the main one is noted only,
        since going back or stopping would undo the others' steps too."""
        self._components, self._run, self._hooks = components, run, hooks
        self._monitor, self._monitors = monitors[""], monitors
        self._num_rollbacks = 0
        self._named: set[Path] = set()
        self.save_s = 0.0
        """How long the last checkpoint took."""
        health = {f"health.{name}".removesuffix("."): monitor for name, monitor in monitors.items()}
        named = {"pool": components.pool, "first_steps": first_steps, "recovery": self, **health}
        self._stateful: dict[str, object] = {**named, **components.training.stateful()}
        self._others = {one.name: one.learner for one in components.trained[1:]}

    @property
    def events(self) -> list[dict[str, Any]]:
        """Of the run's health so far, of all policies in training, by their steps."""
        return sorted((event for one in self._monitors.values() for event in one.events), key=lambda e: int(e["step"]))

    @property
    def state(self) -> dict[str, Any]:
        """JSON values."""
        return {"num_rollbacks": self._num_rollbacks}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._count_rollbacks(state["num_rollbacks"])

    def save(self, step: int) -> None:
        """A checkpoint that the run can go on from at `step`."""
        self._save(step)
        self._components.processes.wait()

    def save_once(self, step: int) -> None:
        """As `save`, where no checkpoint of `step` stands."""
        stands = step in map(step_of, self._run.checkpoint_paths())
        # Asked in the main process alone: the others may see another state of the disk.
        if not self._components.processes.from_main(stands):
            self.save(step)

    def _save(self, step: int) -> None:
        c, run, start = self._components, self._run, time.monotonic()
        c.progress(Phase("saving a checkpoint"))
        healthy = self._monitor.last_healthy(step)
        spare = max((s for s in map(step_of, run.checkpoint_paths()) if s <= healthy), default=None)
        path = checkpoints.save(
            run, step, c.learner, c.play.tokenizer, self._stateful, c.processes.is_main, self._others
        )
        if not c.processes.is_main:
            return
        # What is deleted is deleted after the new checkpoint stands, which no longer asks for it.
        checkpoints.thin_out(run, c.config.checkpoint.keep, spare)
        paths = run.checkpoint_paths()
        damaged = [
            path
            for one in c.trained
            for path in snapshots.prune(run.snapshots_of(one.policy), one.policy, c.pool.steps(one.policy), paths)
        ]
        self._name_once({path: "cannot be read" for path in damaged} | {path: "is none" for path in run.foreign()})
        run.write("pool.json", json.dumps(c.pool.table(c.play.games)))
        self._hooks.checkpoint_saved(step=step, path=path)
        write_report(run.path)
        self.save_s = time.monotonic() - start

    def _name_once(self, left_alone: Mapping[Path, str]) -> None:
        for path, reason in left_alone.items():
            if path not in self._named:
                log.warning("%s lies among the checkpoints and %s; it is left alone", path, reason)
        self._named |= {*left_alone}

    def restore(self, path: Path) -> int:
        """Put everything back as the checkpoint `path` has it; the step to go on with."""
        pool, engine = self._components.pool, self._components.engine
        before = self._snapshots()
        step = checkpoints.restore(path, self._components.learner, self._stateful, self._others)
        for policy in before - self._snapshots():
            engine.drop(policy)
        for learner in pool.learners:
            for past in pool.steps(learner):
                weights = snapshots.read(self._run.snapshots_of(learner), past)
                engine.load_weights(snapshot_id(past, learner), weights, version=past)
        return step

    def _snapshots(self) -> set[PolicyId]:
        pool = self._components.pool
        return {policy for learner in pool.learners for policy in pool.snapshots(learner)}

    def must_roll_back(self, step: int, metrics: dict[str, float]) -> bool:
        """Whether something collapsed and the config asks for a rollback; raises RunError if the run is to stop."""
        for name, monitor in self._monitors.items():
            if name and (noted := monitor.check(step, metric_names.of_one_learner(metrics, name), 0)):
                noted["game"] = metric_names.learners_game(noted["game"], name)
                self._tell(noted)
        event = self._monitor.check(step, metrics, self._num_rollbacks)
        if event is None:
            return False
        self._tell(event)
        if event["action"] == "stop":
            self.save(step + 1)
            raise RunError(f"stopped at step {step}, as health.action asks: {event['sentence']}")
        return bool(event["action"] == "rollback")

    def note(self, finding: Collapse | None) -> None:
        """Keep and tell what was found apart from the monitor, if something was."""
        if finding is not None:
            self._tell(self._monitor.note(finding))

    def _tell(self, event: dict[str, Any]) -> None:
        if self._components.processes.is_main:
            self._run.write_events(self.events)
            self._hooks.health_event(event=event)

    def roll_back(self, step: int) -> int:
        """Go back to the newest checkpoint before the collapse, with the fallback sampler; the step to go on with."""
        run, main, events = self._run, self._components.processes.is_main, self._monitor.events
        num_rollbacks, paths = self._num_rollbacks + 1, run.checkpoint_paths()
        healthy = self._monitor.last_healthy(step)
        kept = [path for path in paths if step_of(path) <= healthy] or paths[:1]
        back = self.restore(kept[-1])
        # The checkpoint is from before the collapse, so it holds neither count nor event: both are put back by hand.
        self._count_rollbacks(num_rollbacks)
        events[-1]["back_to"] = back
        self._monitor.events = events
        self._components.processes.wait()
        # What follows may be killed at any moment. The abandoned metrics are copied first. Then the checkpoints from
        # after the collapse go, newest first: a resumed run starts from the newest that is left, and comes to the same
        # collapse and the same rollback. The checkpoint that counts the rollback stands before any line is cut.
        if main:
            run.set_aside(back, f"abandoned-{num_rollbacks}.jsonl")
            checkpoints.drop([path for path in reversed(paths) if path not in kept])
        self.save(back)
        if main:
            run.rewind(back)
            run.write_events(self.events)
        for one in self._components.trained:
            one.publish(self._components.engine, back)
        return back

    def _count_rollbacks(self, num: int) -> None:
        self._num_rollbacks = num
        if fallback := self._components.training.fallback:
            fallback.num_rollbacks = num
