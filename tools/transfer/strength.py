"""How well a saved model plays the games: exact NashConv where a game is small, and matches against bots."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from spiral.config.schema import Config
from spiral.evaluation.exact import enumerable_trees
from spiral.policies.reference import PolicyRef
from spiral.training.session import Policy

Value = list[float]
"""An exact value alone; of matches the value and its 95% interval."""


def strength(config: Config, model: Path, tell: Callable[[str], None]) -> dict[str, Value]:
    """Measure -> value, in all games of `config`, whatever the model was trained on, against its `evaluate.opponents`.
    `tell` hears of each measure before it is taken.

    A return is the mean over players: 1 where a game is won, chips in poker. Raises SpiralError.
    """
    policy = Policy(PolicyRef("model", path=model), config)
    loaded = policy.loaded
    trees = enumerable_trees(loaded.setup.games, loaded.setup.completer, config.evaluate.max_nodes)
    found: dict[str, Value] = {}
    for game in loaded.setup.games:
        short = game.partition("(")[0].rpartition("/")[2]
        if game in trees:
            tell(f"{short}: NashConv")
            found[f"{short}: NashConv"] = [policy.exploitability(game)["nash_conv"]]
        for member in config.evaluate.opponents:
            if not member.games or game in member.games:
                tell(f"{short}: matches against {member.policy}")
                rows = policy.evaluate(member.policy, game=game, matches=config.evaluate.matches)
                found[f"{short}: return against {member.policy}"] = _return(rows)
    return found


def _return(rows: list[dict[str, float]]) -> Value:
    """From results as each player, which are independent."""
    mean = sum(row["mean_return"] for row in rows) / len(rows)
    below = math.hypot(*(row["mean_return"] - row["return_low"] for row in rows)) / len(rows)
    above = math.hypot(*(row["return_high"] - row["mean_return"] for row in rows)) / len(rows)
    return [mean, mean - below, mean + above]
