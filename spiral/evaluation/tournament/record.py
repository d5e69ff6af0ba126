"""The record of a tournament as JSON values, and a whole tournament from the words of a command line to its files."""

from __future__ import annotations

import json
import platform
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.evaluation.tournament import crosstable
from spiral.evaluation.tournament.crosstable import Json
from spiral.evaluation.tournament.entrants import (
    load_participants,
    number_of,
    parse_entrants,
    tournament_game,
    untrained,
)
from spiral.evaluation.tournament.tournament import Show, Tournament, TournamentConfig
from spiral.plugins.registry import Plugins, label
from spiral.runs.files import make_directory, write_atomic
from spiral.seeds import derive

RULES = ("illegal", "penalty", "retries", "max_turns", "cut", "deadline_s")
"""Which of the first run's `rollout` settings hold in a tournament."""
MAX_VOIDED = 20
"""Voided games that are kept with their moves."""


def tournament_record(tournament: Tournament) -> Json:
    """Everything that is known of a tournament, which may have ended early."""
    participants, config, matches = tournament.participants, tournament.config, tournament.matches
    names, pair_results = tournament.names, list(tournament.pair_results.values())
    extent = crosstable.Extent.of(pair_results)
    table = crosstable.cells(pair_results, extent)
    seed = derive(config.seed, "tournament", participants.game, "bootstrap")
    summary = crosstable.summary(pair_results, len(names), extent.graded, config.anchor, seed)
    players = [_player(tournament, number, row, table) for number, row in enumerate(summary["players"])]
    return {
        "game": participants.game,
        "game_players": participants.num_players,
        "config": asdict(config) | {"anchor": None if config.anchor is None else names[config.anchor]},
        "rules": {name: getattr(participants.config.rollout, name) for name in RULES},
        "games": tournament.num_games,
        "graded": extent.graded,
        "stopped": tournament.stopped,
        "players": players,
        "cells": table,
        **crosstable.rings(table, len(names), extent.graded),
        "num_voided": len(matches.voided),
        "voided": [asdict(game) for game in matches.voided[:MAX_VOIDED]],
        "notes": _notes(tournament, players, extent.graded, summary["unmet_pairs"]),
    }


def run_tournament(
    words: Sequence[str],
    game: str | None,
    config: TournamentConfig,
    anchor: str | None,
    command: str,
    out: Path | None,
    show: Show,
) -> tuple[Json, Path]:
    """Play a tournament between the players that `words` name; its record, and the directory to keep it in.

    Raises SpiralError, before any game, for whatever cannot be played, and when it ends before a single game counts.
    """
    plugins = Plugins.installed()
    entrants = parse_entrants(words, plugins)
    chosen = tournament_game(game, entrants, plugins)
    folder = re.sub(r"[^A-Za-z0-9_.-]+", "-", label(chosen.name, chosen.args))
    out = out or Path("tournaments") / f"{folder}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (out / "tournament.json").exists() or (out.exists() and not out.is_dir()):
        raise SpiralError(f"{out} is not empty; give another --out")
    config = replace(config, anchor=None if anchor is None else number_of(anchor, entrants))
    tournament = Tournament(load_participants(entrants, chosen, plugins), config)
    started = time.time()
    tournament.play(show)
    if not tournament.num_games:
        raise SpiralError(f"no game was finished: {tournament.stopped or 'the budget is too small for one deal'}")
    record = {
        **tournament_record(tournament),
        "command": command,
        "versions": {"python": platform.python_version(), **dict(sorted(plugins.distributions.items()))},
        "times": {"started": int(started), "seconds": round(time.time() - started, 1)},
    }
    return record, out


def keep_record(record: Json, out: Path) -> None:
    """Write tournament.json into the directory `out`."""
    make_directory(out)
    write_atomic(out / "tournament.json", json.dumps(record, indent=1, allow_nan=False) + "\n")


def _player(tournament: Tournament, number: int, summary: Json | None, table: Sequence[Json]) -> Json:
    one, matches = tournament.participants.entrants[number], tournament.matches
    rating = tournament.results.rating(tournament.participants.game, one.name)
    scores = [cell["score"] for cell in table if cell["row"] == number]
    results = [r for pair in tournament.pair_results.values() for m in pair.meetings for r in m if number in r.line_up]
    return {
        "name": one.name,
        "kind": one.kind,
        "step": one.step,
        "games": len(results),
        "score": sum(scores) / len(scores) if scores else None,
        "illegal": sum(r.offended(number) for r in results) / max(1, len(results)),
        "faults": dict(sorted(Counter(r.fault for r in results if r.fault and r.offended(number)).items())),
        "cut": sum(r.cut for r in results) / max(1, len(results)),
        "voided": dict(sorted(Counter(matches.failures[number]).items())),
        "withdrawn": number in matches.withdrawn,
        "mu": rating.mu,
        "sigma": rating.sigma,
        **(summary or {}),
    }


def _notes(tournament: Tournament, players: Sequence[Json], graded: bool, unmet_pairs: int) -> list[str]:
    participants = tournament.participants
    notes = [note] if (note := untrained(participants.game, participants.entrants)) else []
    if tournament.stopped:
        notes.append(f"The tournament did not reach its end: {tournament.stopped}.")
    if graded:
        notes.append(
            "Wins differ in size here, so the player that wins most often need not win most: worth, the Nash average "
            "and cycles go by the margin, half the difference of two returns; Elo and the live rating count wins."
        )
    if unmet_pairs:
        notes.append(f"{unmet_pairs} pairs never met; the Nash average takes from the ratings what they would do.")
    for name, faults in ((one["name"], one["faults"]) for one in players):
        if faults:
            causes = ", ".join(f"{times} by {fault}" for fault, times in faults.items())
            notes.append(f"{name} is a bot that breaks its contract, and forfeited games for it: {causes}.")
    return notes + [f"{tournament.names[number]} {why}." for number, why in tournament.matches.withdrawn.items()]
