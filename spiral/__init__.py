"""spiral trains language models by self-play on text games; everything that varies is a plug-in.

The public names: what a plug-in imports, and what a notebook calls. With `spiral.theory` and `spiral.testing` they are
all that is public; every other module is private. Importing this loads no model library.
"""

from typing import TYPE_CHECKING, Any

from spiral.api.answers import last_boxed, last_tagged, without_thought
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
from spiral.api.person import ask_person, wrapped
from spiral.api.policies import (
    Bot,
    ChatModel,
    Declined,
    OpponentSampler,
    PoolView,
    Rating,
    ResultsView,
    SaidMove,
    Unavailable,
)
from spiral.api.records import (
    LEARNER,
    Completion,
    Continuation,
    Episode,
    PolicyId,
    Request,
    Sampling,
    Trajectory,
    Turn,
    VoidedGame,
    outcome,
)
from spiral.api.tasks import Task
from spiral.api.text import printable
from spiral.api.training import (
    AdvantageEstimator,
    Engine,
    GameSampler,
    Learner,
    LearnerSetup,
    PromptFormat,
    RecordsEpisodes,
    RewardShaper,
    Stateful,
)

if TYPE_CHECKING:
    from spiral.learning.packing import pack
    from spiral.models.logits import TokenLogits
    from spiral.training.components import Components
    from spiral.training.session import Policy, Run, build, configure, load, train

_LAZY = {
    "Components": "spiral.training.components",
    "TokenLogits": "spiral.models.logits",
    "pack": "spiral.learning.packing",
    **dict.fromkeys(("Policy", "Run", "build", "configure", "load", "train"), "spiral.training.session"),
}
"""Names that bring a model library -> the module they come from, imported when they are first used."""

__all__ = [
    "LEARNER",
    "AdvantageEstimator",
    "Bot",
    "ChatModel",
    "Completion",
    "Components",
    "ConfigError",
    "Continuation",
    "Declined",
    "Engine",
    "Enumerable",
    "Episode",
    "Game",
    "GameSampler",
    "IllegalMove",
    "Learner",
    "LearnerSetup",
    "OpponentSampler",
    "PluginError",
    "Policy",
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
    "Run",
    "RunError",
    "SaidMove",
    "Sampling",
    "SpiralError",
    "Stateful",
    "Task",
    "TokenLogits",
    "Trajectory",
    "Turn",
    "Unavailable",
    "VoidedGame",
    "ask_person",
    "build",
    "configure",
    "has_perfect_information",
    "hookimpl",
    "is_zero_sum",
    "last_boxed",
    "last_tagged",
    "load",
    "outcome",
    "pack",
    "printable",
    "random_legal_move",
    "train",
    "try_move",
    "without_thought",
    "worst_return",
    "wrapped",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'spiral' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
