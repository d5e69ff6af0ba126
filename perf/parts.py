"""The parts of a run that the benches measure, made through the config as a run makes them.

Policies that must know how moves are written are warm-started once and kept under perf/results.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spiral_games
import spiral_models

from spiral.api.records import LEARNER, Episode, Request
from spiral.api.training import Engine
from spiral.config import loading as config
from spiral.config.schema import Config, WarmStartConfig
from spiral.learning.warm_start import WarmStarted
from spiral.learning.warm_start_cache import cached_warm_start
from spiral.models.logits import parameters
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.selfplay import setup as assemble
from spiral.selfplay.rollouts import Rollouts

RESULTS = Path(__file__).with_name("results")

Ids = tuple[int, ...]


@dataclass
class Table:
    """A run's players and its way of playing."""

    config: Config
    players: assemble.Players
    plugins: Plugins

    @property
    def engine(self) -> Any:
        """The engine that the config names."""
        return self.players.engine

    def rollouts(self, engine: Engine | None = None, prompter: Prompter | None = None) -> Rollouts:
        """What plays the table's games, over another engine or prompter where one is given."""
        p, made = self.players, assemble.trainers(self.config, self.plugins)
        return Rollouts(
            p.games,
            made.curriculum,
            made.opponents,
            p.pool,
            engine or p.engine,
            prompter or p.prompter,
            self.config.rollout,
        )

    def reload(self) -> None:
        """Load the model's weights into the engine, which forgets all it kept: each training step begins so."""
        self.engine.load_weights(LEARNER, parameters(self.players.model), 0)


def table(*overrides: str, wrap: Callable[[Any], Prompter] | None = None, legal: float = 0.0) -> Table:
    """The players of the demo's config with `overrides`; `wrap` makes another prompter from the tokenizer.

    `legal`: warm-start the model until this share of its replies are legal moves; 0 leaves it untrained.
    """
    plugins = Plugins.installed()
    loaded = config.load(None, overrides)
    assemble.check(loaded, plugins)
    players = assemble.make_play_setup(loaded, plugins)
    if wrap is not None:
        players.prompter = wrap(players.tokenizer)
    made = Table(loaded, players, plugins)
    if legal:
        _warm(made, overrides, legal, "plain" if wrap is None else getattr(wrap, "__name__", ""))
    made.reload()
    gc.collect()
    gc.freeze()  # as training does
    return made


def _warm(made: Table, overrides: Sequence[str], legal: float, prompt: str) -> None:
    p = made.players
    settings = WarmStartConfig(max_steps=600, legal=legal)

    def train() -> WarmStarted:
        weights = dict.fromkeys(p.games, 1.0)
        tokens = made.config.rollout.max_new_tokens
        return warm_start(p.model, p.games, weights, p.prompter, p.engine, tokens, settings, 0, lambda *_: None)

    os.environ["SPIRAL_CACHE"] = str(RESULTS / "cache")
    which = [o for o in overrides if o.startswith(("games", "model"))]
    code = b"".join(f.read_bytes() for m in (spiral_games, spiral_models) for f in sorted(_folder(m).glob("*.py")))
    identity = {"for": which, "prompt": prompt, "legal": legal, "code": hashlib.sha256(code).hexdigest()}
    cached_warm_start(p.model, identity, train)


def _folder(module: Any) -> Path:
    return Path(module.__file__).parent


def drain(engine: Any, requests: Sequence[Request]) -> dict[int, Ids]:
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
