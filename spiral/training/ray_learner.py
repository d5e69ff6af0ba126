"""A process of the learner on a Ray cluster: the training loop, whose games a fleet of players plays."""

from __future__ import annotations

import os
import platform
import threading
import traceback
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch.distributed

from spiral.api.errors import RunError, SpiralError
from spiral.api.hooks import hookimpl
from spiral.api.progress import Phase, Progress
from spiral.api.training import Engine
from spiral.cluster.engine import FleetEngine
from spiral.cluster.fleet import Fleet
from spiral.cluster.games import FleetGames
from spiral.cluster.log import Warnings
from spiral.cluster.ray_crew import RayCrew, enter_folder
from spiral.cluster.ray_metrics import RayMetrics
from spiral.cluster.settings import RaySettings
from spiral.cluster.transports import check_transport
from spiral.cluster.versions import Origin, check_versions, versions
from spiral.config.schema import Config
from spiral.learning.distributed import Processes, is_of_the_group
from spiral.learning.stop_signals import StopRequested, StopSignals
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.selfplay.draws import Draws
from spiral.training.experience import StepGames
from spiral.training.loop import train

SHARDED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}  # fmt: skip
"""What accelerate's launcher tells its processes by examples/fsdp2.yaml."""
TELL_S = 0.25
"""Seconds between two messages to the command."""


class OnFleet:
    """See `spiral.training.components.Elsewhere`."""

    def __init__(self, fleet: Fleet, settings: RaySettings) -> None:
        self._fleet, self._settings = fleet, settings
        self.is_async = settings.staleness > 0

    def engine(self, model: Any, tokenizer: Any) -> Engine:
        return FleetEngine(self._fleet, self._settings.start_s)

    def games(
        self, config: Config, draws: Draws, processes: Processes, stop: StopSignals, progress: Progress
    ) -> StepGames:
        where = processes.rank, processes.world
        return FleetGames(self._fleet, draws, config, self._settings.staleness, *where, stop, progress)


class Told:
    """Observes a run and tells the command's process of it; a thread does, which hears of a stop too."""

    def __init__(self, relay: Any, stop: StopSignals) -> None:
        self._relay, self._stop = relay, stop
        self._messages: list[tuple[str, Any]] = []
        self._phase: Phase | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def progress(self, phase: Phase) -> None:
        """The run goes on with this."""
        self._phase = phase

    def say(self, what: str, told: Any) -> None:
        """Tell one thing."""
        with self._lock:
            self._messages.append((what, told))

    def close(self) -> None:
        """Tell what is left, and no more."""
        self._closed.set()
        self._thread.join()
        self._phase = None
        self._tell()

    @hookimpl
    def run_started(self, config: Mapping[str, Any], run_dir: Path) -> None:
        self.say("run_started", {"config": dict(config), "run_dir": run_dir})

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        self.say("step_finished", {"step": step, "metrics": dict(metrics)})

    @hookimpl
    def health_event(self, event: Mapping[str, Any]) -> None:
        self.say("health_event", {"event": dict(event)})

    def _run(self) -> None:
        while not self._closed.wait(TELL_S):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            messages, self._messages = self._messages, []
        p = self._phase
        phase = None if p is None else (p.name, p.total, p.unit, p.done() if p.total else 0.0, p.note())
        number = ray.get(self._relay.tell.remote(messages, phase))
        if number is not None and not self._stop.num_received:
            self._stop.ask(number)


def learn(given: Mapping[str, Any]) -> None:
    """What Ray Train runs in each process of the learner. `given`: config, settings, run, relay, namespace, origin,
    resume. What is wrong with the run is told, not raised: Ray would start the processes again, and meet it again."""
    relay, run, config, settings = given["relay"], given["run"], given["config"], given["settings"]
    origin: Origin = given["origin"]
    rank = int(os.environ.get("RANK", "0"))
    if settings.sharded:
        os.environ |= SHARDED
    stop = StopSignals()
    told = Told(relay, stop)
    log = Warnings(partial(told.say, "warning")) if rank == 0 else None
    try:
        num_starts = _num_starts(relay, rank)
        if rank == 0 and num_starts:
            told.say("restarted", num_starts)
        enter_folder(origin)
        plugins = Plugins.installed()
        check_versions(origin.versions, versions(plugins), origin.host, platform.node())
        _check_seen(run)
        plugins.observe_with(told)
        plugins.observe_with(RayMetrics(run.path.name))
        resume = bool(given["resume"] or run.checkpoint_paths() or run.metrics())
        _train(config, settings, run, plugins, told, resume, stop, given["namespace"], rank, num_starts)
    except StopRequested as stopped:
        told.say("stopped", stopped.number)
    except SpiralError as error:
        if rank == 0:
            told.say("failed", error)
    except Exception as error:
        # Another process of the learner was lost: Ray starts all of them again. Anything else would happen again.
        if is_of_the_group(error):
            raise
        told.say("crashed", traceback.format_exc())
    finally:
        if log is not None:
            log.stop()
        told.close()


def _num_starts(relay: Any, rank: int) -> int:
    """How often the learner was started before, the same for all of its processes."""
    told = [ray.get(relay.starts.remote()) if rank == 0 else 0]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(told)
    return told[0]


def _train(
    config: Config, settings: RaySettings, run: RunDir, plugins: Plugins, told: Told, resume: bool, stop: StopSignals,
    namespace: str, rank: int, num_starts: int,
) -> None:  # fmt: skip
    if not settings.engines:
        train(config, run, plugins, told.progress, resume, stop)
        return
    window = max(1, config.rollout.max_concurrent // config.rollout.group_size)
    client = f"learner-{rank}:{uuid.uuid4().hex}"
    check_transport(settings.transport)
    crew, deadline_s = RayCrew(namespace, settings.transport), config.rollout.deadline_s
    # Each of the learner's processes loses the same players; one tells of them.
    warn = partial(told.say, "warning")
    on_loss = warn if rank == 0 else (lambda sentence: None)
    fleet = Fleet(
        crew, client, window, deadline_s, gives_weights=rank == 0, num_starts=num_starts, on_loss=on_loss, on_said=warn
    )
    try:
        train(config, run, plugins, told.progress, resume, stop, OnFleet(fleet, settings))
    finally:
        fleet.close()


def _check_seen(run: RunDir) -> None:
    if not (run.path / "config.yaml").is_file():
        raise RunError(
            f"{run.path} cannot be seen on {platform.node()}, where the learner was started; give a --run-dir on a "
            "file system that all nodes share"
        )
