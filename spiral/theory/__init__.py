"""Exact theory of enumerable games, and the statistics of results; public: see `__all__`."""

from spiral.theory.best_response import NashConv, PolicyTable, best_response, nash_conv, outcomes, uniform, values
from spiral.theory.game_tree import Decision, GameTree

__all__ = [
    "Decision",
    "GameTree",
    "NashConv",
    "PolicyTable",
    "best_response",
    "nash_conv",
    "outcomes",
    "uniform",
    "values",
]
