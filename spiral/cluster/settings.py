"""The arguments of `cluster: {name: ray, args: {...}}`, and what of a config they rule out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from spiral.api.errors import ConfigError, SpiralError
from spiral.config.loading import resolved
from spiral.config.schema import Config
from spiral.plugins.arguments import mismatches
from spiral.policies.reference import PolicyRef

NAMES = ("local", "ray")


@dataclass(frozen=True)
class RaySettings:
    """How a run is spread over the processes of a Ray cluster."""

    engines: int | Literal["all"] = 1
    """Players, processes with an engine each; `all` is as many as the cluster has room for. 0 leaves the games to the
    learner's processes, each with an engine on its own device that sleeps while the learner updates."""
    workers: int = 0
    """Processes that play the games, so that a game's own code holds up no engine; 0 leaves them to the engines'
    processes."""
    learners: int = 1
    """Processes that train one model together."""
    sharded: bool = False
    """Whether each of them holds a part of the model (FSDP2); a copy of it otherwise."""
    staleness: int = 0
    """Versions of the weights that the learner may be ahead of those with which a game began. 0 is synchronous: each
    step plays with the weights of the last one. Above it, games go on while the learner updates."""
    address: str | None = None
    """Of the cluster; null starts one on this machine, unless the command runs inside one."""
    engine_cpus: float = 1.0
    """CPU cores that a player is given."""
    engine_gpus: float = 0.0
    """GPUs that a player is given; several for an engine that is spread over them."""
    worker_cpus: float = 1.0
    """CPU cores that a worker is given."""
    learner_cpus: float = 1.0
    """CPU cores that a learner's process is given."""
    learner_gpus: float = 0.0
    """GPUs that a learner's process is given."""
    transport: Literal["store", "nixl"] = "store"
    """How new weights reach the players: as bytes through Ray's object store (`store`), or read by each player from the
    learner's device or main memory (`nixl`)."""
    restarts: int = 100
    """Times that players, and the learner's processes, are started again after they were lost."""
    start_s: float = 300.0
    """Longest wait for the first player."""


@contextmanager
def ray_extra() -> Iterator[None]:
    """Around imports of Ray. Raises SpiralError where the extra is missing."""
    # Read when Ray is imported. A run tells by itself, in a line, what it lost and what becomes of it.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|actor died unexpectedly")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # Processes of Ray Train stay in the folder that relative paths begin at.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    try:
        yield
    except ModuleNotFoundError as error:
        raise SpiralError(
            f'cluster=ray needs {error.name}, which is not installed; pip install "spiral-selfplay[ray]", or leave the '
            "cluster out"
        ) from error


def ray_settings(config: Config) -> RaySettings | None:
    """The settings of a run on Ray; None of a local one. Raises ConfigError for what does not fit, a sentence each."""
    named = config.cluster
    if named.name == "local" and not named.args:
        return None
    if problem := _problem(named.name, resolved(named.args)):
        raise ConfigError(problem)
    settings = RaySettings(**resolved(named.args))
    if problems := [*_ruled_out(config, settings)]:
        raise ConfigError("\n".join(problems))
    return settings


def shares_cores(config: Config, s: RaySettings, cores: int) -> bool:
    """Whether the torch threads that compute at once are more than so many cores, on a cluster of this machine alone.
    Threads that spin while they wait for each other take the cores from those that work."""
    num_engines = 1 if s.engines == "all" else s.engines
    num = num_engines + s.learners if s.staleness else max(num_engines, s.learners)
    return num > 1 and num * config.threads > cores


def _problem(name: str, args: Mapping[str, Any]) -> str | None:
    if name not in NAMES:
        return f"no cluster named '{name}' (there are: {', '.join(NAMES)}); set cluster=ray, or leave it out"
    if name == "local":
        return f"cluster 'local' takes no arguments, and was given {', '.join(args)}; set cluster.name=ray for them"
    known = list(inspect.signature(RaySettings).parameters)
    if unknown := [key for key in args if key not in known]:
        return f"cluster 'ray' has no argument {', '.join(unknown)}; its arguments are: {', '.join(known)}"
    for argument, reason in mismatches(RaySettings, args):
        return f"cluster 'ray': argument {argument} {reason}"
    return None


def _ruled_out(config: Config, s: RaySettings) -> Iterator[str]:
    low = {"engines": 0, "learners": 1, "staleness": 0, "restarts": 0, "start_s": 1.0, "engine_cpus": 0.0}
    low |= {"learner_cpus": 0.0, "engine_gpus": 0.0, "learner_gpus": 0.0, "workers": 0, "worker_cpus": 0.0}
    for name, least in low.items():
        value = getattr(s, name)
        if value != "all" and value < least:
            yield f"cluster.args.{name} is {value}, and must be at least {least}"
    if not s.engines:
        yield from _needs_engines(s)
    if s.staleness and config.learner.importance == "none":
        yield (
            f"cluster.args.staleness is {s.staleness} with learner.importance=none: games that began with older "
            "weights would be trained on as if they were new ones; leave learner.importance out, or set staleness=0"
        )
    for member in config.pool.members:
        ref = PolicyRef.parse(member.policy)
        if s.workers and ref.has_weights:
            yield (
                f"pool.members names {member.policy}, and the workers, which ask the engines for the policies of this "
                "run, have no model of their own; leave it out, or set cluster.args.workers=0"
            )
    if config.examples.path or config.text.paths:
        yield "cluster=ray plays games, and this run learns from a file; leave the cluster out"
    if config.learner.method.name == "lora" and config.warm_start.max_steps and s.engines:
        yield (
            "cluster=ray with learner.method=lora and a warm start: the players would have the base without it; set "
            "warm_start.max_steps=0"
        )


def _needs_engines(s: RaySettings) -> Iterator[str]:
    """What processes with engines of their own are needed for."""
    if s.staleness:
        yield (
            f"cluster.args.staleness is {s.staleness} with engines=0: an engine that sleeps while the learner updates "
            "plays nothing meanwhile; set staleness=0, or give the engines processes of their own (engines=1 or more)"
        )
    if s.transport != "store":
        yield (
            f"cluster.args.transport is {s.transport} with engines=0: no weights leave the learner's processes; leave "
            "the transport out, or set engines=1 or more"
        )
    if s.workers:
        yield (
            f"cluster.args.workers is {s.workers} with engines=0: there is no process for them to ask; set workers=0, "
            "or engines=1 or more"
        )
