"""The parts of a run that the benches measure, made through the config as a run makes them, and stand-ins for some.

Policies that must know how moves are written are warm-started once and kept under bench/results.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import spiral_games
import spiral_models

from spiral import assemble, config
from spiral.interfaces import Engine, PromptFormat
from spiral.lm import parameters
from spiral.plugins import Plugins
from spiral.prompts import PlainFormat, Prompter
from spiral.rollouts import Rollouts
from spiral.schema import Config, WarmStartConfig
from spiral.types import LEARNER, Completion, Episode, PolicyId, Request
from spiral.warm_start import WarmStarted, cached_warm_start, warm_start

RESULTS = Path(__file__).with_name("results")
_LETTERS = "etaoin shrdlucmfwypvbgkjqxz.,?!0"

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
    players = assemble.players(loaded, plugins)
    if wrap is not None:
        players.prompter = wrap(players.tokenizer)
    made = Table(loaded, players, plugins)
    if legal:
        _warm(made, overrides, legal, "plain" if wrap is None else getattr(wrap, "__name__", ""))
    made.reload()
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


class Recorder:
    """An engine that passes everything on, and remembers the requests and what the steps cost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.requests: list[Request] = []
        self.replies: dict[int, Ids] = {}
        self.num_steps, self.step_cpu = 0, 0.0

    def submit(self, request: Request) -> None:
        self.requests.append(request)
        self._engine.submit(request)

    def step(self) -> list[Completion]:
        start = time.process_time()
        done = self._engine.step()
        self.step_cpu += time.process_time() - start
        self.num_steps += 1
        for completion in done:
            self.replies[completion.request_id] = completion.ids
        return done

    def load_weights(self, policy: PolicyId, weights: Any, version: int) -> None:
        self._engine.load_weights(policy, weights, version)


class LockStep:
    """The schedule that the rollouts avoid: hands out replies only when every request has its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._num_waiting = engine, 0

    def submit(self, request: Request) -> None:
        self._num_waiting += 1
        self._engine.submit(request)

    def step(self) -> list[Completion]:
        done: list[Completion] = []
        while len(done) < self._num_waiting:
            done += self._engine.step()
        self._num_waiting = 0
        return done

    def load_weights(self, policy: PolicyId, weights: Any, version: int) -> None:
        self._engine.load_weights(policy, weights, version)


class Salted(Prompter):
    """Puts three ids of its own into every prompt, so that no two are equal and sharing saves nothing."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(cast(PromptFormat, PlainFormat(tokenizer)))
        self._num = 0

    def encode(self, rules: str, observation: str) -> Ids:
        ids = super().encode(rules, observation)
        self._num += 1
        mixed = self._num * 40_503 % (1 << 18)  # odd, so 2**18 prompts pass before one comes again
        return (ids[0], 64 + (mixed & 63), 64 + (mixed >> 6 & 63), 64 + (mixed >> 12), *ids[1:])


class FreeText:
    """Reads any reply as chat, so that an untrained model can hold a long match; ten more ids end a reply.

    Replies of a model that knows nothing are then about 25 ids long, and of very different lengths.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._plain = PlainFormat(tokenizer)
        self.stop_ids: tuple[int, ...] = (*self._plain.stop_ids, *range(10))

    def encode(self, rules: str, observation: str) -> list[int]:
        return self._plain.encode(rules, observation)

    def reply(self, move: str) -> None:
        """Many replies say one move."""
        return None

    def read(self, reply: Sequence[int]) -> str | None:
        """As many letters as there were ids."""
        return "".join(_LETTERS[i % 32] for i in reply[:-1]).strip() or "."


def free_text(tokenizer: Any) -> Prompter:
    """A prompter of `FreeText`."""
    return Prompter(FreeText(tokenizer))


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
