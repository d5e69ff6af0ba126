"""spiral trains language models by self-play on text games; everything that varies is a plug-in."""

from spiral.api.errors import IllegalMove, SpiralError
from spiral.api.hooks import hookimpl
from spiral.api.interfaces import (
    AdvantageEstimator,
    Bot,
    Engine,
    Enumerable,
    Game,
    OpponentSampler,
    PromptFormat,
    RewardShaper,
    Stateful,
)
from spiral.api.records import LEARNER, Completion, Episode, PolicyId, Request, Trajectory, Turn

__all__ = [
    "LEARNER",
    "AdvantageEstimator",
    "Bot",
    "Completion",
    "Engine",
    "Enumerable",
    "Episode",
    "Game",
    "IllegalMove",
    "OpponentSampler",
    "PolicyId",
    "PromptFormat",
    "Request",
    "RewardShaper",
    "SpiralError",
    "Stateful",
    "Trajectory",
    "Turn",
    "hookimpl",
]
