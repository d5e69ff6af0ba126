"""Exact NashConv of a language policy in games that can be enumerated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.models.logits import TokenLogits
from spiral.policies.completer import Completer
from spiral.runs import metric_names
from spiral.theory.best_response import NashConv, nash_conv
from spiral.theory.game_tree import GameTree

RARE = 1e-3
"""A move below this probability comes up in less than one of a thousand visits to its decision."""


@dataclass(frozen=True)
class Exploitability:
    """The exact worth of a language policy in one enumerable game."""

    theory: NashConv
    table: dict[str, dict[str, float]]
    """observation -> {legal move: probability}"""
    illegal_mass: dict[str, float]
    """observation -> probability of replies that are no legal move."""

    @property
    def mean_illegal_mass(self) -> float:
        """Plain mean over the observations."""
        return sum(self.illegal_mass.values()) / len(self.illegal_mass)

    @property
    def rare_moves(self) -> float:
        """Share of the legal moves, over all observations, with a probability below `RARE`: self-play hardly samples
        them, so it cannot learn that they are needed."""
        probabilities = [p for row in self.table.values() for p in row.values()]
        return sum(p < RARE for p in probabilities) / len(probabilities)


def exploitability(lm: TokenLogits, completer: Completer, rules: str, tree: GameTree) -> Exploitability:
    """Exact NashConv of the language policy; see `move_probabilities` for what its probabilities are."""
    table, illegal_mass = move_probabilities(lm, completer, rules, tree.decisions)
    return Exploitability(nash_conv(tree, table), table, illegal_mass)


def profile_exploitability(
    lms: Sequence[TokenLogits], completer: Completer, rules: str, tree: GameTree
) -> Exploitability:
    """Exact NashConv of a profile: one language policy a player. Where two players face one observation, the row of the
    later one has its number in its name."""
    tables, mass, together = [], dict[str, float](), dict[str, dict[str, float]]()
    for player, lm in enumerate(lms):
        own = [decision for decision in tree.decisions if decision.player == player]
        table, illegal = move_probabilities(lm, completer, rules, own) if own else ({}, {})
        tables.append(table)
        for observation, row in table.items():
            name = f"{observation} (player {player})" if observation in together else observation
            together[name], mass[name] = row, illegal[observation]
    return Exploitability(nash_conv(tree, tables), together, mass)


def enumerable_trees(
    games: Mapping[str, Callable[[], Game]], completer: Completer, max_nodes: int
) -> dict[str, GameTree]:
    """The trees of the games with at most `max_nodes` nodes whose moves can be scored; others have no exact value."""
    trees = {}
    for name, make in games.items():
        try:
            tree = GameTree.of(make(), max_nodes)
        except SpiralError:
            continue
        if all(completer.prompter.is_scored(decision.moves) for decision in tree.decisions[:1]):
            trees[name] = tree
    return trees


def exact_metrics(results: Mapping[str, Exploitability], suffix: str = "") -> dict[str, float]:
    """NashConv and the mean illegal mass of each game; without a suffix also what each player gets and could gain."""
    metrics: dict[str, float] = {}
    for game, result in results.items():
        name = functools.partial(metric_names.of_game, "eval", game)
        metrics[name(f"nash_conv{suffix}")] = result.theory.nash_conv
        metrics[name(f"illegal_mass{suffix}")] = result.mean_illegal_mass
        if not suffix:
            metrics[name("rare_moves")] = result.rare_moves
            for player, (value, gain) in enumerate(zip(result.theory.values, result.theory.gains, strict=True)):
                metrics[name(metric_names.of_player("value", player))] = value
                metrics[name(metric_names.of_player("gain", player))] = gain
    return metrics


def policy_record(step: int, results: Mapping[str, Exploitability]) -> dict[str, Any]:
    """The last tables, as JSON for the report."""
    return {
        game: {"step": step, "table": result.table, "illegal_mass": result.illegal_mass}
        for game, result in results.items()
    }
