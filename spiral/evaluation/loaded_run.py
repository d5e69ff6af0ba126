"""A finished or running run, opened to be measured: a checkpoint's averaged weights in an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Sampling
from spiral.config.schema import Config
from spiral.evaluation.evaluator import AVERAGED, Arena, exploitability
from spiral.evaluation.sampled import estimate, sample_moves
from spiral.models.logits import TokenLogits, load_parameters
from spiral.plugins.registry import Plugins
from spiral.runs import checkpoints as checkpoint
from spiral.runs.directory import RunDir
from spiral.selfplay import setup as assemble
from spiral.selfplay.setup import Players
from spiral.theory.game_tree import GameTree


@dataclass
class Inspected:
    """A run's policy, ready to play."""

    config: Config
    step: int
    players: Players

    @classmethod
    def open(cls, path: Path, step: int | None = None) -> Inspected:
        """Load a run, as it was at `step` if one is given.

        Raises RunError for a directory that is none, a step without a checkpoint, or a checkpoint of another model.
        """
        plugins = Plugins.installed()
        run, config = RunDir.open(path)
        assemble.check(config, plugins)
        chosen = checkpoint_of(run, step)
        weights = checkpoint.averaged_weights(chosen)
        players = assemble.players(config, plugins)
        with torch.no_grad():
            load_parameters(players.model, weights)
        step = checkpoint.step_of(chosen)
        players.engine.load_weights(AVERAGED, weights, step)
        players.pool.weighted.add(AVERAGED)
        return cls(config, step, players)

    def game(self, name: str | None) -> str:
        """The label of one of the run's games, by its label or plain name."""
        return game_label(list(self.players.games), name)

    def thinks(self, tree: GameTree) -> bool:
        """Whether many replies say one move, so that moves have no probability that could be scored."""
        return any(self.players.prompter.reply(move) is None for move in tree.decisions[0].moves)


def checkpoint_of(run: RunDir, step: int | None) -> Path:
    """A run's checkpoint of `step`, or its newest. Raises RunError if there is none."""
    if step is None:
        return checkpoint.latest(run.path)
    steps = {checkpoint.step_of(path): path for path in checkpoint.found(run.checkpoints)}
    if step not in steps:
        known = ", ".join(map(str, steps)) or "none"
        raise RunError(f"{run.path} has no checkpoint of step {step}; it has: {known}")
    return steps[step]


def game_label(labels: Sequence[str], name: str | None) -> str:
    """One of a run's games, by its label or plain name. Raises SpiralError if that leaves a choice, or none."""
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


def exact_row(
    inspected: Inspected, game: str | None, tree: GameTree | None = None
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Exact NashConv of one game and the policy's table; `tree` if the game was unfolded already.

    Raises SpiralError for a game that cannot be enumerated, or a policy that thinks before it moves.
    """
    p = inspected.players
    name = inspected.game(game)
    made = p.games[name]()
    tree = tree or GameTree.of(made)
    if inspected.thinks(tree):
        raise SpiralError(
            "this run's policy thinks before it moves, so many replies say one move and none can be scored; estimate "
            "with --samples 200, or bound it from below with: spiral exploit"
        )
    result = exploitability(TokenLogits(p.model), p.prompter, made.rules, tree)
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


def sampled_row(
    inspected: Inspected, game: str | None, num_samples: int
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """NashConv of one game with its interval and the policy's table, from `num_samples` replies at each decision.

    Raises SpiralError for a game that cannot be enumerated.
    """
    p, config = inspected.players, inspected.config
    name = inspected.game(game)
    made = p.games[name]()
    tree = GameTree.of(made)
    sampled = sample_moves(
        p.engine,
        AVERAGED,
        p.prompter,
        Sampling(config.rollout.max_new_tokens, p.prompter.stop_ids),
        made.rules,
        tree.decisions,
        num_samples,
        (config.seed, "samples", name),
        config.rollout.deadline_s,
    )
    found = estimate(tree, sampled)
    illegal, illegal_low, illegal_high = sampled.mean_illegal_mass()
    table, intervals = sampled.table(), sampled.intervals()
    row = {
        "game": name,
        "step": inspected.step,
        "samples": num_samples,
        "decisions": len(table),
        "nash_conv": found.plug_in,
        "nash_conv_split": found.split,
        "nash_conv_low": found.low,
        "nash_conv_high": found.high,
        "values": list(found.theory.values),
        "best_response_values": list(found.theory.best_response_values),
        "gains": list(found.theory.gains),
        "illegal_mass": illegal,
        "illegal_low": illegal_low,
        "illegal_high": illegal_high,
        "decisions_without_legal_reply": sum(not any(sampled.counts(o).values()) for o in table),
        "policy": {
            o: {
                m: {"share": share, "low": intervals[o][m][0], "high": intervals[o][m][1]} for m, share in moves.items()
            }
            for o, moves in table.items()
        },
    }
    return row, table
