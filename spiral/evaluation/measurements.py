"""What is measured of a loaded run, as JSON values: matches, exact NashConv, sampled NashConv."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import PolicyId
from spiral.api.text import printable_logger
from spiral.config.schema import MemberConfig
from spiral.evaluation.exact import exploitability
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.evaluation.matches import MatchRunner, Tally
from spiral.evaluation.move_probabilities import TRANSCRIPT
from spiral.evaluation.sampled import estimate, sample_moves
from spiral.models.logits import TokenLogits
from spiral.policies.reference import PolicyRef, short_name, trained_on_others
from spiral.selfplay.setup import check_room_of
from spiral.theory.game_tree import GameTree

logger = printable_logger(__name__)


def match_rows(
    loaded: LoadedPolicy,
    game: str | None,
    opponents: Sequence[str],
    num_games: int,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Results as each player; against the run's own opponents, and in all of its games, unless some are named.

    A game for one player has no opponents: one row, with None as the opponent.
    """
    players, policy, seed = loaded.players, loaded.policy, loaded.config.seed
    runner = MatchRunner(players.games, players.pool, loaded.config.rollout, progress)
    members = [MemberConfig(text) for text in opponents] or own_opponents(loaded)
    rows: list[dict[str, Any]] = []
    for name in [loaded.game(game)] if game or not players.games else list(players.games):
        if players.games[name]().num_players == 1:
            alone = runner.alone(name, policy, num_games, (seed, "eval", name, "alone"))
            rows.append(_match_row(loaded, name, None, 0, alone))
            continue
        for member in members:
            if member.games and name not in member.games:
                continue
            if problem := trained_on_others(member.policy, [name]):
                raise SpiralError(problem)
            opponent = players.loader.load(member.policy)
            check_room_of(opponent, players, [name])
            tallies = runner.against(name, policy, opponent, num_games, (seed, "eval", name, opponent))
            rows += [_match_row(loaded, name, opponent, player, tally) for player, tally in enumerate(tallies)]
    return rows


def own_opponents(loaded: LoadedPolicy) -> list[MemberConfig]:
    """The opponents of the policy's config that it may name by itself: a run from elsewhere sends no key anywhere and
    reads no model outside of it. One warning tells of the others."""
    members, is_outside = loaded.config.evaluate.opponents, loaded.players.loader.is_outside
    outside = [member.policy for member in members if is_outside(PolicyRef.parse(member.policy))]
    if outside:
        options = " ".join(f"--opponent {shlex.quote(text)}" for text in outside)
        logger.warning("not played, since only the run's config names it and it is outside of the run: %s", options)
    return [member for member in members if member.policy not in outside]


def _match_row(loaded: LoadedPolicy, game: str, opponent: PolicyId | None, player: int, tally: Tally) -> dict[str, Any]:
    low, high = tally.interval(tally.wins)
    return {
        "game": game,
        "opponent": None if opponent is None else short_name(opponent),
        "player": player,
        "step": loaded.step,
        "games": tally.games,
        "win": tally.wins / tally.games,
        "win_low": low,
        "win_high": high,
        "draw": tally.draws / tally.games,
        "loss": tally.losses / tally.games,
        "mean_return": tally.mean_return,
        "return_low": tally.return_low,
        "return_high": tally.return_high,
        "illegal": tally.illegal / tally.games,
        "opponent_illegal": tally.opponents_illegal / tally.games,
        "cut": tally.cut / tally.games,
        "voided": dict(tally.voided),
    }


def exact_row(
    loaded: LoadedPolicy, game: str | None, tree: GameTree | None = None, progress: Progress = no_progress
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Exact NashConv of one game and the policy's table; `tree` if the game was unfolded already.

    Raises SpiralError for a game that cannot be enumerated, or a policy that thinks before it moves.
    """
    setup = loaded.setup
    name = loaded.game(game)
    made = setup.games[name]()
    tree = tree or GameTree.of(made)
    if setup.completer.prompter.has_history:
        raise SpiralError(TRANSCRIPT)
    if not loaded.has_unique_replies(tree):
        raise SpiralError(
            "in this run's prompt format many replies say one move, so no move's probability can be scored; estimate "
            "with --samples 200, or bound it from below with: spiral best-response"
        )
    progress(Phase(f"scoring the moves of {len(tree.decisions):,} decisions"))
    result = exploitability(TokenLogits(setup.model), setup.completer, made.rules, tree)
    row = {
        "game": name,
        "step": loaded.step,
        "nash_conv": result.theory.nash_conv,
        "exploitability": result.theory.exploitability,
        "values": list(result.theory.values),
        "best_response_values": list(result.theory.best_response_values),
        "gains": list(result.theory.gains),
        "illegal_mass": result.mean_illegal_mass,
    }
    return row, result.table


def sampled_row(
    loaded: LoadedPolicy, game: str | None, num_samples: int, progress: Progress = no_progress
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """NashConv of one game with its interval and the policy's table, from `num_samples` replies at each decision.

    Raises SpiralError for a game that cannot be enumerated.
    """
    setup, config = loaded.setup, loaded.config
    name = loaded.game(game)
    made = setup.games[name]()
    tree = GameTree.of(made)
    sampled = sample_moves(
        setup.completer,
        loaded.policy,
        made.rules,
        tree.decisions,
        num_samples,
        (config.seed, "samples", name),
        config.rollout.deadline_s,
        progress,
    )
    found = estimate(tree, sampled)
    illegal, illegal_low, illegal_high = sampled.mean_illegal_mass()
    table, intervals = sampled.table(), sampled.intervals()
    row = {
        "game": name,
        "step": loaded.step,
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
