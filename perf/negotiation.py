"""Games of negotiation in free text by a model that knows no words, so that replies and games have a fixed length.

Shared by what measures whole steps of a model with random weights: any ids that it samples are read as chat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from perf.shapes import Shape
from perf.stand_ins import FreeText, Recorder
from spiral.api.records import LEARNER, Trajectory
from spiral.api.training import Engine
from spiral.config import loading
from spiral.models.chat import chat
from spiral.models.logits import parameters
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import make_games, make_training_setup

TURNS = 4
"""Of both players together."""


@dataclass(frozen=True)
class Talk:
    """What was played."""

    trajectories: list[Trajectory]
    counts: dict[str, int]


def talks(shape: Shape, model: Any, engine: Engine, games: int, reply_tokens: int, seed: int = 0) -> Talk:
    """Play `games` against itself; each reply has `reply_tokens` ids, and prompts hold the whole game so far."""
    plugins = Plugins.installed()
    config = loading.load(None, [{
        "games": [{"name": "simple_negotiation", "args": {"turns": TURNS, "max_chat": reply_tokens}}],
        "rollout": {"max_new_tokens": reply_tokens, "retries": 3, "cut_replies": "train"},
    }])  # fmt: skip
    _, tokenizer = plugins.make("model", "byte-0.1m")
    form = FreeText(chat(tokenizer, answer="plain", history="transcript", when_full="void"), ends=())
    completer = Completer.of(engine, Prompter(form), reply_tokens, reads_cut=True)
    recorder = Recorder(engine)
    pool = Pool(plugins, replace(completer, engine=recorder))
    setup = make_training_setup(config, plugins)
    rollouts = Rollouts(make_games(config, plugins), setup.curriculum, setup.opponents, pool, config.rollout)
    engine.load_weights(LEARNER, parameters(model), 0)
    episodes = rollouts.play(games, (seed,))
    trajectories = [t for episode in episodes for t in episode.trajectories]
    return Talk(
        trajectories,
        {
            "games": len(episodes),
            "turns": sum(len(t.turns) for t in trajectories),
            "sampled_tokens": sum(map(len, recorder.replies.values())),
            "engine_steps": recorder.num_steps,
        },
    )
