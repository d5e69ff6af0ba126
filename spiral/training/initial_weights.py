"""The weights that a run begins with: fresh ones, taught the format of its games; knows nothing of what follows."""

from __future__ import annotations

import functools
from dataclasses import asdict

from spiral.config.schema import Config
from spiral.learning.warm_start import Progress, cached_warm_start, legal_share, warm_start
from spiral.plugins.registry import Plugins
from spiral.selfplay.setup import Players


def first_weights(config: Config, players: Players, plugins: Plugins, progress: Progress) -> None:
    """Warm-start the model of a new run, or read what an earlier run of the same games, model and seed kept."""
    if not config.warm_start.max_steps:
        return
    weights = {name: game.weight for name, game in zip(players.games, config.games, strict=True)}
    tokens = config.rollout.max_new_tokens
    train = functools.partial(
        warm_start,
        players.model,
        players.games,
        weights,
        players.prompter,
        players.engine,
        tokens,
        config.warm_start,
        config.seed,
        progress,
    )
    if not config.warm_start.cache:
        train()
        return
    asked = asdict(config)
    identity = {key: asked[key] for key in ("games", "model", "engine", "prompt", "warm_start", "seed")}
    identity |= {"tokens": tokens, "versions": dict(plugins.distributions), "device": players.model.device.type}
    legal = functools.partial(
        legal_share, players.model, players.games, weights, players.prompter, players.engine, tokens, config.seed
    )
    cached_warm_start(players.model, identity, train, legal, config.warm_start.legal)
