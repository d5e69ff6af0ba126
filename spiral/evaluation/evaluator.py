"""The truth about a policy: exact NashConv where a game can be enumerated, matches with intervals everywhere else."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.training import Engine
from spiral.api.records import Episode, PolicyId
from spiral.config.schema import EvaluateConfig, RolloutConfig
from spiral.evaluation.move_probabilities import Table, move_table
from spiral.models.logits import TokenLogits
from spiral.models.prompts import Prompter
from spiral.policies.pool import Pool
from spiral.policies.results import outcome
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts
from spiral.theory.best_response import NashConv, nash_conv
from spiral.theory.game_tree import GameTree
from spiral.theory.intervals import wilson

AVERAGED: PolicyId = "averaged"
"""The learner's averaged weights, as a policy of its own."""


@dataclass(frozen=True)
class Exploitability:
    """The exact worth of a language policy in one enumerable game."""

    theory: NashConv
    table: Table
    """observation -> {legal move: probability}"""
    illegal_mass: dict[str, float]
    """observation -> probability of replies that are no legal move."""

    @property
    def mean_illegal_mass(self) -> float:
        """Plain mean over the observations."""
        return sum(self.illegal_mass.values()) / len(self.illegal_mass)


@dataclass(frozen=True)
class Tally:
    """Results of one player of one pairing."""

    wins: int
    draws: int
    losses: int
    mean_return: float
    return_error: float
    """Half the width of the 95% interval of `mean_return` (normal approximation)."""
    illegal: int
    """Games that this player lost by an illegal move."""

    @property
    def games(self) -> int:
        return self.wins + self.draws + self.losses

    def interval(self, count: int) -> tuple[float, float]:
        """Wilson's 95% interval of the share that `count` is of the games."""
        return wilson(count, self.games)


def exploitability(lm: TokenLogits, prompter: Prompter, rules: str, tree: GameTree) -> Exploitability:
    """Exact NashConv of the language policy; see `move_table` for what its probabilities are."""
    table, illegal_mass = move_table(lm, prompter, rules, tree.decisions)
    return Exploitability(nash_conv(tree, table), table, illegal_mass)


class Arena:
    """Plays matches between fixed line-ups of policies."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        pool: Pool,
        engine: Engine,
        prompter: Prompter,
        config: RolloutConfig,
    ) -> None:
        self._games, self._pool, self._engine, self._prompter = games, pool, engine, prompter
        self._config = replace(config, games_per_deal=1)

    def play(self, game: str, policies: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]) -> list[Episode]:
        """`num_games` episodes of `game` with `policies` at the chairs 0, 1, ..."""
        rollouts = Rollouts(
            self._games,
            Weighted({game: 1.0}),
            _Seated(policies),
            self._pool,
            self._engine,
            self._prompter,
            self._config,
        )
        return rollouts.play(num_games, seed)

    def against(
        self, game: str, policy: PolicyId, opponent: PolicyId, num_games: int, seed: Sequence[int | str]
    ) -> list[Tally]:
        """`num_games` from each chair, the opponent on all other chairs: one tally a chair."""
        tallies = []
        num_players = self._games[game]().num_players
        for player in range(num_players):
            chairs = [policy if chair == player else opponent for chair in range(num_players)]
            tallies.append(tally(self.play(game, chairs, num_games, [*seed, player]), player))
        return tallies


class _Seated:
    def __init__(self, policies: Sequence[PolicyId]) -> None:
        self._policies = list(policies)

    def seat(self, game: str, num_players: int, pool: Pool, rng: random.Random) -> list[PolicyId]:
        return self._policies


def tally(episodes: Sequence[Episode], player: int) -> Tally:
    """Count one player's results."""
    results = [outcome(episode, player) for episode in episodes]
    returns = [episode.returns[player] for episode in episodes]
    mean = sum(returns) / len(returns)
    variance = sum((r - mean) ** 2 for r in returns) / max(1, len(returns) - 1)
    return Tally(
        results.count(0),
        results.count(1),
        results.count(2),
        mean,
        1.96 * math.sqrt(variance / len(returns)),
        sum(episode.offender == player for episode in episodes),
    )


class Evaluator:
    """What training measures every so often, on the weights it is given."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        opponents: Sequence[PolicyId],
        arena: Arena,
        prompter: Prompter,
        config: EvaluateConfig,
    ) -> None:
        self._games, self._opponents, self._arena = games, opponents, arena
        self._prompter, self._config = prompter, config

    @functools.cached_property
    def _trees(self) -> dict[str, GameTree]:
        """Made when they are first needed: a large game takes seconds to unfold."""
        return _trees(self._games, self._prompter, self._config.max_nodes) if self._config.exploitability else {}

    def exact(self, lm: TokenLogits) -> dict[str, Exploitability]:
        """Every enumerable game's exploitability."""
        rules = {name: self._games[name]().rules for name in self._trees}
        return {name: exploitability(lm, self._prompter, rules[name], tree) for name, tree in self._trees.items()}

    def matches(self, policy: PolicyId, seed: Sequence[int | str]) -> dict[str, float]:
        """Win, draw and loss rates by chair against each bot, with intervals, as metrics."""
        metrics: dict[str, float] = {}
        for game in self._games:
            for opponent in self._opponents:
                tallies = self._arena.against(game, policy, opponent, self._config.games, [*seed, game, opponent])
                for player, t in enumerate(tallies):
                    low, high = t.interval(t.wins)
                    prefix = f"eval/{game}/vs/{opponent.removeprefix('bot:')}/p{player}"
                    metrics |= {
                        f"{prefix}/win": t.wins / t.games,
                        f"{prefix}/draw": t.draws / t.games,
                        f"{prefix}/loss": t.losses / t.games,
                        f"{prefix}/win_low": low,
                        f"{prefix}/win_high": high,
                        f"{prefix}/return": t.mean_return,
                    }
        return metrics


def exact_metrics(results: Mapping[str, Exploitability], suffix: str = "") -> dict[str, float]:
    """NashConv and the mean illegal mass of each game; without a suffix also what each player gets and could gain."""
    metrics: dict[str, float] = {}
    for game, result in results.items():
        metrics[f"eval/{game}/nash_conv{suffix}"] = result.theory.nash_conv
        metrics[f"eval/{game}/illegal_mass{suffix}"] = result.mean_illegal_mass
        if not suffix:
            for player, (value, gain) in enumerate(zip(result.theory.values, result.theory.gains, strict=True)):
                metrics[f"eval/{game}/value_p{player}"] = value
                metrics[f"eval/{game}/gain_p{player}"] = gain
    return metrics


def policy_record(step: int, results: Mapping[str, Exploitability]) -> dict[str, Any]:
    """The last tables, as JSON for the report."""
    return {
        game: {"step": step, "table": result.table, "illegal_mass": result.illegal_mass}
        for game, result in results.items()
    }


def _trees(games: Mapping[str, Callable[[], Game]], prompter: Prompter, max_nodes: int) -> dict[str, GameTree]:
    """The trees of the games small enough to enumerate; the others are measured by matches alone."""
    trees = {}
    for name, make in games.items():
        try:
            tree = GameTree.of(make(), max_nodes)
        except SpiralError:
            continue
        if all(prompter.reply(move) is not None for decision in tree.decisions[:1] for move in decision.moves):
            trees[name] = tree
    return trees
