"""A finished or running run, opened to be measured: its newest checkpoint's averaged weights in an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spiral import assemble, checkpoint
from spiral.assemble import Players
from spiral.errors import SpiralError
from spiral.evaluate import AVERAGED, Arena, exploitability
from spiral.game_tree import GameTree
from spiral.lm import TokenLogits, load_parameters
from spiral.plugins import Plugins
from spiral.run_dir import RunDir
from spiral.schema import Config


@dataclass
class Inspected:
    """A run's policy, ready to play."""

    config: Config
    step: int
    players: Players

    @classmethod
    def open(cls, path: Path) -> Inspected:
        """Load a run. Raises RunError for a directory that is none, or a checkpoint of another model."""
        plugins = Plugins.installed()
        run, config = RunDir.open(path)
        assemble.check(config, plugins)
        newest = checkpoint.latest(run.path)
        weights = checkpoint.averaged_weights(newest)
        players = assemble.players(config, plugins)
        with torch.no_grad():
            load_parameters(players.model, weights)
        step = checkpoint.step_of(newest)
        players.engine.load_weights(AVERAGED, weights, step)
        players.pool.weighted.add(AVERAGED)
        return cls(config, step, players)

    def game(self, name: str | None) -> str:
        """The label of one of the run's games, by its label or plain name."""
        labels = list(self.players.games)
        if name is None and len(labels) == 1:
            return labels[0]
        named = [g for g in labels if name is not None and (g == name or g.split("(")[0] == name)]
        if len(named) != 1:
            asked = "no game was named" if name is None else f"the run has no one game '{name}'"
            raise SpiralError(f"{asked}; it has: {', '.join(labels)}; give --game")
        return named[0]


def match_rows(
    inspected: Inspected, game: str | None, opponents: Sequence[str], num_games: int
) -> list[dict[str, Any]]:
    """Results against each bot from each chair; all of the run's games, and its own bots, unless some are named."""
    p = inspected.players
    arena = Arena(p.games, p.pool, p.engine, p.prompter, inspected.config.rollout)
    rows: list[dict[str, Any]] = []
    for name in [inspected.game(game)] if game else list(p.games):
        for text in tuple(opponents) or inspected.config.evaluate.opponents:
            opponent = p.guests.invite(text)
            seed = (inspected.config.seed, "eval", name, opponent)
            for player, tally in enumerate(arena.against(name, AVERAGED, opponent, num_games, seed)):
                low, high = tally.interval(tally.wins)
                rows.append(
                    {
                        "game": name,
                        "opponent": opponent.removeprefix("bot:"),
                        "player": player,
                        "step": inspected.step,
                        "games": tally.games,
                        "win": tally.wins / tally.games,
                        "win_low": low,
                        "win_high": high,
                        "draw": tally.draws / tally.games,
                        "loss": tally.losses / tally.games,
                        "mean_return": tally.mean_return,
                        "return_error": tally.return_error,
                        "illegal": tally.illegal / tally.games,
                    }
                )
    return rows


def exact_row(inspected: Inspected, game: str | None) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Exact NashConv of one game and the policy's table. Raises SpiralError for a game that cannot be enumerated."""
    p = inspected.players
    name = inspected.game(game)
    made = p.games[name]()
    result = exploitability(TokenLogits(p.model), p.prompter, made.rules, GameTree.of(made))
    row = {
        "game": name,
        "step": inspected.step,
        "nash_conv": result.theory.nash_conv,
        "exploitability": result.theory.exploitability,
        "values": list(result.theory.values),
        "best_response_values": list(result.theory.best_response_values),
        "gains": list(result.theory.gains),
        "illegal_mass": result.mean_illegal_mass,
    }
    return row, result.table
