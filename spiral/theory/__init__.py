"""Exact theory of enumerable games, and the statistics of results; public: see `__all__`."""

from spiral.theory.best_response import NashConv, Table, best_response, nash_conv, outcomes, uniform
from spiral.theory.game_tree import Decision, GameTree

__all__ = [
    "Decision",
    "GameTree",
    "NashConv",
    "Table",
    "best_response",
    "nash_conv",
    "outcomes",
    "uniform",
]
