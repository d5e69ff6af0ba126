"""The parts of a run that the benches measure, made through the config as a run makes them.

Policies that must know how moves are written are warm-started once and kept under perf/results.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import spiral_games
import spiral_models

from spiral.api.records import LEARNER, Episode, Request
from spiral.api.training import Engine
from spiral.config import loading
from spiral.config.schema import Config, WarmStartConfig
from spiral.learning.warm_start import WarmStart
from spiral.learning.warm_start_cache import cached_warm_start
from spiral.models.logits import parameters
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import PlaySetup, make_play_setup, make_training_setup
from spiral.selfplay.validation import check

RESULTS = Path(__file__).with_name("results")

Ids = tuple[int, ...]


@dataclass
class Parts:
    """A run's set-up, and what plays its games."""

    config: Config
    setup: PlaySetup
    plugins: Plugins

    @property
    def engine(self) -> Any:
        """The engine that the config names, which also counts the tokens it computes."""
        return self.setup.completer.engine

    @property
    def prompter(self) -> Prompter:
        """How the learner is asked."""
        return self.setup.completer.prompter

    def rollouts(self, engine: Engine | None = None) -> Rollouts:
        """What plays the config's games, with its opponents; over another engine where one is given."""
        pool = self.setup.pool
        if engine is not None:
            pool = Pool(self.plugins, replace(self.setup.completer, engine=engine))
        training = make_training_setup(self.config, self.plugins)
        return Rollouts(self.setup.games, training.curriculum, training.opponents, pool, self.config.rollout)

    def reload(self) -> None:
        """Load the model's weights into the engine, which forgets all it kept: each training step begins so."""
        self.engine.load_weights(LEARNER, parameters(self.setup.model), 0)


def make_parts(*overrides: str, wrap: Callable[[Any], Prompter] | None = None, legal: float = 0.0) -> Parts:
    """The parts of the demo's config with `overrides`; `wrap` makes another prompter from the tokenizer.

    `legal`: warm-start the model until this share of its replies are legal moves; 0 leaves it untrained.
    """
    plugins = Plugins.installed()
    config = loading.load(None, overrides)
    check(config, plugins)
    setup = make_play_setup(config, plugins)
    if wrap is not None:
        prompter = wrap(setup.tokenizer)
        reads_cut = setup.completer.reads_cut
        setup.completer = Completer.of(setup.completer.engine, prompter, config.rollout.max_new_tokens, reads_cut)
        setup.pool = Pool(plugins, setup.completer)
    parts = Parts(config, setup, plugins)
    if legal:
        _warm_start(parts, overrides, legal, "plain" if wrap is None else getattr(wrap, "__name__", ""))
    parts.reload()
    gc.collect()
    gc.freeze()  # as training does
    return parts


def _warm_start(parts: Parts, overrides: Sequence[str], legal: float, prompt: str) -> None:
    setup = parts.setup
    config = WarmStartConfig(max_steps=600, legal=legal)
    warm_start = WarmStart(setup.model, setup.games, dict.fromkeys(setup.games, 1.0), setup.completer, config, seed=0)
    os.environ["SPIRAL_CACHE"] = str(RESULTS / "cache")
    which = [o for o in overrides if o.startswith(("games", "model"))]
    code = b"".join(f.read_bytes() for m in (spiral_games, spiral_models) for f in sorted(_folder(m).rglob("*.py")))
    identity = {"for": which, "prompt": prompt, "legal": legal, "code": hashlib.sha256(code).hexdigest()}
    cached_warm_start(warm_start, identity)


def _folder(module: Any) -> Path:
    return Path(module.__file__).parent


def drain(engine: Engine, requests: Sequence[Request]) -> dict[int, Ids]:
    """All requests at once, and the replies by request."""
    for request in requests:
        engine.submit(request)
    replies: dict[int, Ids] = {}
    while len(replies) < len(requests):
        for completion in engine.step():
            replies[completion.request_id] = completion.ids
    return replies


def num_turns(episodes: Sequence[Episode]) -> int:
    """Turns of all games and players."""
    return sum(len(episode.players) for episode in episodes)


def engine_tokens(requests: Sequence[Request], replies: dict[int, Ids]) -> int:
    """Tokens that a model would compute without any sharing: every prompt, and every reply token but the last."""
    return sum(len(r.prompt) + len(replies[r.id]) - 1 for r in requests)
