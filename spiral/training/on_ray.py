"""Trains a run on a Ray cluster: starts players and the learner's processes, shows what they tell, and ends with them.

This process holds the run's lock and none of its state: whatever dies beside it is started again, by Ray, and goes on
from the last checkpoint.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from spiral.api.errors import RunError
from spiral.api.progress import Phase
from spiral.api.text import printable_logger
from spiral.cluster.ray_crew import Needs, RayPlayers, missing
from spiral.cluster.relay import Relay
from spiral.cluster.settings import RaySettings, shares_cores
from spiral.cluster.versions import Origin
from spiral.config.schema import Config
from spiral.learning.stop_signals import StopRequested, StopSignals
from spiral.plugins.registry import Plugins
from spiral.reports.terminal import Terminal
from spiral.runs.directory import RunDir
from spiral.training.ray_learner import learn

LOOK_S = 0.2
"""Seconds between two looks at what the learner told."""
PASSED_ON = (
    "HF_HUB_OFFLINE", "HF_HOME", "TQDM_DISABLE", "SPIRAL_PLUGINS", "XDG_CACHE_HOME", "OMP_WAIT_POLICY",
    "RAY_TRAIN_V2_ENABLED", "RAY_CHDIR_TO_TRIAL_DIR",
)  # fmt: skip
"""Of this process's environment, to all others."""
log = printable_logger(__name__)


def train_on_ray(
    config: Config,
    settings: RaySettings,
    run: RunDir,
    plugins: Plugins,
    resume: bool,
    stop: StopSignals,
    terminal: Terminal,
) -> None:
    """Train to the last step. Raises SpiralError as the learner did, and StopRequested after a signal."""
    origin, namespace = Origin.here(plugins), f"spiral-{uuid.uuid4().hex[:8]}"
    terminal.progress(Phase("starting Ray"))
    with _cluster(config, settings):
        stop.take_again()  # Ray takes SIGTERM for itself as it starts
        num = _num_players(settings)
        _check_room(settings, num)
        asked = [(num, "engine", "s"), (settings.workers, "worker", "s"), (settings.learners, "learner process", "es")]
        terminal.progress(Phase(f"starting {', '.join(f'{n} {one}{s * (n > 1)}' for n, one, s in asked if n)}"))
        players = RayPlayers(config, settings, origin, namespace, run.bots.resolve())
        players.start(num)
        relay = ray.remote(Relay).options(num_cpus=0).remote()
        given = {
            "config": config, "settings": settings, "run": RunDir(run.path.resolve()), "relay": relay,
            "namespace": namespace, "origin": origin, "resume": resume,
        }  # fmt: skip
        _watched(_learner(settings, given, run), relay, stop, terminal, players)


@contextmanager
def _cluster(config: Config, settings: RaySettings) -> Iterator[None]:
    """Connected to the cluster that is asked for, or to one that is started here."""
    environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if not address and shares_cores(config, settings, os.cpu_count() or 1):
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    num = 1 if settings.engines == "all" else settings.engines
    cores = settings.learners * settings.learner_cpus + num * settings.engine_cpus
    cores += settings.workers * settings.worker_cpus
    # Of a cluster of its own, cores are only a count: more processes than there are share them.
    local = {} if address else {"num_cpus": max(os.cpu_count() or 1, int(cores + 0.999)), "include_dashboard": False}
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": environment},
            **local,
        )  # fmt: skip
    except ConnectionError as error:
        raise RunError(
            f"no Ray cluster answers at {address} ({(str(error).splitlines() or [''])[0]}); start one with "
            "ray start --head, or leave cluster.args.address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _num_players(s: RaySettings) -> int:
    """How many players the cluster is to have now."""
    if s.engines != "all":
        return s.engines
    total = ray.cluster_resources()
    taken = {"CPU": s.learners * s.learner_cpus + s.workers * s.worker_cpus, "GPU": s.learners * s.learner_gpus}
    engine = {"CPU": s.engine_cpus, "GPU": s.engine_gpus}
    rooms = [(total.get(kind, 0.0) - taken[kind]) // each for kind, each in engine.items() if each]
    return max(1, int(min(rooms, default=1)))


def _check_room(s: RaySettings, num: int) -> None:
    """Raise RunError if the cluster has no room for so many players and the learner's processes."""
    kinds = [
        Needs("engines", num, s.engine_cpus, s.engine_gpus),
        Needs("workers", s.workers, s.worker_cpus, 0.0),
        Needs("learners", s.learners, s.learner_cpus, s.learner_gpus),
    ]
    needs = [kind for kind in kinds if kind.num]
    if lacking := missing(ray.cluster_resources(), needs):
        raise RunError(
            f"the cluster has no room for the run: {lacking}; ask for less (cluster.args.engines, engine_cpus, "
            "engine_gpus), or add nodes"
        )


def _learner(s: RaySettings, given: dict[str, Any], run: RunDir) -> TorchTrainer:
    resources = {"CPU": s.learner_cpus} | ({"GPU": s.learner_gpus} if s.learner_gpus else {})
    return TorchTrainer(
        learn,
        train_loop_config=given,
        scaling_config=ScalingConfig(
            num_workers=s.learners, use_gpu=s.learner_gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="ray", storage_path=str(run.path.resolve()), failure_config=FailureConfig(max_failures=s.restarts)
        ),
    )


def _watched(trainer: TorchTrainer, relay: Any, stop: StopSignals, terminal: Terminal, players: RayPlayers) -> None:
    """Show what the learner tells until it ends, and start players where nodes joined. Raises what it met."""
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    told_to_stop = False
    outcome: tuple[str, Any] | None = None
    while True:
        is_last = not thread.is_alive()
        if stop.num_received and not told_to_stop:
            ray.get(relay.stop.remote(stop.number))
            told_to_stop = True
        messages, phase = ray.get(relay.take.remote())
        for what, told in messages:
            outcome = (what, told) if what in ("stopped", "failed", "crashed") else outcome
            _show(what, told, terminal)
        if phase is not None:
            name, total, unit, done, note = phase
            terminal.progress(Phase(name, total, unit, lambda done=done: done, lambda note=note: note))  # type: ignore[misc]
        if is_last:
            break
        players.grow_to(_num_players(players.settings))
        thread.join(LOOK_S)
    if outcome is not None:
        what, told = outcome
        if what == "crashed":
            raise RuntimeError(f"a process of the learner met an error of the program:\n{told}")
        raise StopRequested(told) if what == "stopped" else told
    if failed:
        raise RunError(
            f"the learner's processes could not be kept alive ({(str(failed[0]).splitlines() or [''])[0]}); see Ray's "
            "logs, and go on from the last checkpoint with --resume"
        ) from failed[0]


def _show(what: str, told: Any, terminal: Terminal) -> None:
    if what == "warning":
        log.warning("%s", told)
    elif what == "restarted":
        log.warning("the learner's processes were lost, and go on from the last checkpoint (start %d)", told + 1)
    elif hasattr(terminal, what):
        getattr(terminal, what)(**told)
