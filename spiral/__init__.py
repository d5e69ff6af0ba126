"""spiral trains language models by self-play on text games; everything that varies is a plug-in.

The public names: what a plug-in imports, and what a notebook calls. With `spiral.theory` and `spiral.testing` they are
all that is public; every other module is private. Importing this loads no model library.
"""

from spiral.api.answers import last_boxed
from spiral.api.errors import ConfigError, PluginError, PromptTooLong, RunError, SpiralError
from spiral.api.games import (
    Enumerable,
    Game,
    IllegalMove,
    has_perfect_information,
    is_zero_sum,
    random_legal_move,
    try_move,
    worst_return,
)
from spiral.api.hooks import Register, hookimpl
from spiral.api.policies import Bot, OpponentSampler, PoolView, Rating, ResultsView, Unavailable
from spiral.api.records import (
    LEARNER,
    Completion,
    Episode,
    PolicyId,
    Request,
    Sampling,
    Trajectory,
    Turn,
    VoidedGame,
    outcome,
)
from spiral.api.training import (
    AdvantageEstimator,
    Engine,
    GameSampler,
    Learner,
    PromptFormat,
    RecordsEpisodes,
    RewardShaper,
    Stateful,
)

__all__ = [
    "LEARNER",
    "AdvantageEstimator",
    "Bot",
    "Completion",
    "ConfigError",
    "Engine",
    "Enumerable",
    "Episode",
    "Game",
    "GameSampler",
    "IllegalMove",
    "Learner",
    "OpponentSampler",
    "PluginError",
    "PolicyId",
    "PoolView",
    "PromptFormat",
    "PromptTooLong",
    "Rating",
    "RecordsEpisodes",
    "Register",
    "Request",
    "ResultsView",
    "RewardShaper",
    "RunError",
    "Sampling",
    "SpiralError",
    "Stateful",
    "Trajectory",
    "Turn",
    "Unavailable",
    "VoidedGame",
    "has_perfect_information",
    "hookimpl",
    "is_zero_sum",
    "last_boxed",
    "outcome",
    "random_legal_move",
    "try_move",
    "worst_return",
]
