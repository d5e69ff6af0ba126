"""Conformance checks and fakes for the tests of plug-ins; they need neither pytest nor torch.

Each `check_...` returns the violations, a sentence each: `assert check_game(MyGame) == []` is a whole test.
What only the author can decide is a `Notice`, an ordinary warning.
"""

from spiral.testing.benchmarks import check_benchmark
from spiral.testing.bots import check_bot
from spiral.testing.chat_server import ChatAnswer, ChatServer
from spiral.testing.curricula import check_curriculum
from spiral.testing.estimators import check_estimator
from spiral.testing.fakes import ScriptedBot, ScriptedEngine, make_episode, make_trajectory, make_turn
from spiral.testing.games import check_game
from spiral.testing.models import check_model
from spiral.testing.plugins import CHECKED_KINDS, check
from spiral.testing.prompts import check_prompt_format, merging_tokenizer
from spiral.testing.rewards import check_reward
from spiral.testing.samplers import check_sampler
from spiral.testing.violations import Notice

__all__ = [
    "CHECKED_KINDS",
    "ChatAnswer",
    "ChatServer",
    "Notice",
    "ScriptedBot",
    "ScriptedEngine",
    "check",
    "check_benchmark",
    "check_bot",
    "check_curriculum",
    "check_estimator",
    "check_game",
    "check_model",
    "check_prompt_format",
    "check_reward",
    "check_sampler",
    "make_episode",
    "make_trajectory",
    "make_turn",
    "merging_tokenizer",
]
