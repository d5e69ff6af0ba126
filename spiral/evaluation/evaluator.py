"""What training measures every so often: exact NashConv where a game can be enumerated, and matches with intervals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from spiral.api.games import Game
from spiral.api.records import PolicyId
from spiral.config.schema import EvaluateConfig
from spiral.evaluation.exact import Exploitability, enumerable_trees, exploitability, profile_exploitability
from spiral.evaluation.matches import MatchRunner
from spiral.models.logits import TokenLogits
from spiral.policies.completer import Completer
from spiral.policies.reference import short_name
from spiral.runs import metric_names
from spiral.theory.game_tree import GameTree


class Evaluator:
    """What training measures every so often, on the weights it is given."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        opponents: Mapping[str, Sequence[PolicyId]],
        runner: MatchRunner,
        completer: Completer,
        config: EvaluateConfig,
    ) -> None:
        """`opponents`: those of each game."""
        self._games, self._opponents, self._runner = games, opponents, runner
        self._completer, self._config = completer, config

    @functools.cached_property
    def _trees(self) -> dict[str, GameTree]:
        """Made when they are first needed: a large game takes seconds to unfold."""
        if not self._config.exploitability:
            return {}
        return enumerable_trees(self._games, self._completer, self._config.max_nodes)

    def exact(self, lm: TokenLogits, without: Collection[str] = ()) -> dict[str, Exploitability]:
        """Every enumerable game's exploitability, but for those of the games `without`."""
        rules = {name: self._games[name]().rules for name in self._trees if name not in without}
        return {name: exploitability(lm, self._completer, rules[name], self._trees[name]) for name in rules}

    def exact_profile(self, profiles: Mapping[str, Sequence[TokenLogits]]) -> dict[str, Exploitability]:
        """The exploitability of a profile, one policy a player, in each game that is enumerable and has one."""
        return {
            name: profile_exploitability(profiles[name], self._completer, self._games[name]().rules, tree)
            for name, tree in self._trees.items()
            if name in profiles
        }

    def matches(
        self, policy: PolicyId, seed: Sequence[int | str], players: Mapping[str, Collection[int]] = MappingProxyType({})
    ) -> dict[str, float]:
        """Win, draw and loss rates as each player against each opponent, with intervals, as metrics; of a game for one
        player, its mean return. `players`: by game, those that the policy is; every one in other games."""
        metrics: dict[str, float] = {}
        for game, make in self._games.items():
            if make().num_players == 1:
                metrics |= self._alone(game, policy, seed)
                continue
            for opponent in self._opponents[game]:
                tallies = self._runner.against(game, policy, opponent, self._config.matches, [*seed, game, opponent])
                for player, result in enumerate(tallies):
                    if player not in players.get(game, (player,)):
                        continue
                    name = functools.partial(metric_names.match, game, short_name(opponent), player)
                    low, high = result.interval(result.wins)
                    metrics |= {
                        name("win"): result.wins / result.games,
                        name("draw"): result.draws / result.games,
                        name("loss"): result.losses / result.games,
                        name("win_low"): low,
                        name("win_high"): high,
                        name("return"): result.mean_return,
                        name("illegal"): result.illegal / result.games,
                        name("opponent_illegal"): result.opponents_illegal / result.games,
                        name("cut"): result.cut / result.games,
                        name("voided"): float(sum(result.voided.values())),
                    }
        return metrics

    def _alone(self, game: str, policy: PolicyId, seed: Sequence[int | str]) -> dict[str, float]:
        result = self._runner.alone(game, policy, self._config.matches, [*seed, game, "alone"])
        name = functools.partial(metric_names.of_game, "eval", game)
        return {
            name("return"): result.mean_return,
            name("return_low"): result.return_low,
            name("return_high"): result.return_high,
            name("illegal"): result.illegal / result.games,
            name("cut"): result.cut / result.games,
            name("voided"): float(sum(result.voided.values())),
        }
