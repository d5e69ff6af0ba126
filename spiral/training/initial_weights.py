"""The weights that a run begins with: those of its model plug-in, after a warm start on its games."""

from __future__ import annotations

from dataclasses import asdict

from spiral.api.progress import Progress
from spiral.config.loading import resolved
from spiral.config.schema import Config
from spiral.learning.warm_start import WarmStart
from spiral.learning.warm_start_cache import cached_warm_start
from spiral.models.fingerprint import read_from
from spiral.plugins.registry import Plugins
from spiral.selfplay.setup import PlaySetup

IDENTITY = ("games", "model", "engine", "prompt", "warm_start", "seed")
"""Keys of the config that the result of a warm start depends on."""


def warm_start_weights(config: Config, setup: PlaySetup, plugins: Plugins, progress: Progress) -> None:
    """Warm-start the model of a new run, or read what an earlier run of the same games, model and seed kept."""
    if not config.warm_start.max_steps:
        return
    weights = {name: game.weight for name, game in zip(setup.games, config.games, strict=True)}
    warm_start = WarmStart(
        setup.model,
        setup.games,
        weights,
        setup.completer,
        config.warm_start,
        config.seed,
        progress,
        config.rollout.max_turns,
        config.learner.micro_batch_tokens,
    )
    if not config.warm_start.cache:
        warm_start.train()
        return
    as_dict = asdict(config)
    identity = resolved({key: as_dict[key] for key in IDENTITY})
    identity |= {
        "learner": resolved(as_dict["learner"]["method"]),
        "tokens": config.rollout.max_new_tokens,
        "turns": config.rollout.max_turns,
        "micro_batch_tokens": config.learner.micro_batch_tokens,
        "versions": dict(plugins.distributions),
        "device": setup.model.device.type,
        "dtype": str(setup.model.dtype),
        "read_from": setup.read_from | read_from(config.engine.args) | read_from(config.prompt.args),
    }
    cached_warm_start(warm_start, identity)
