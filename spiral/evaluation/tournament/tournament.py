"""Plays a tournament: everybody against everybody or by rating, chairs balanced, deals shared; keeps what came of it.

Players are numbers and names here; `crosstable` computes what follows from the results.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from spiral.api.errors import SpiralError
from spiral.api.records import Episode
from spiral.evaluation.tournament import crosstable
from spiral.evaluation.tournament.crosstable import Json, Played, Result
from spiral.evaluation.tournament.entrants import Field, entrants, field, game_of, number_of, untrained
from spiral.evaluation.tournament.matches import Referee
from spiral.evaluation.tournament.pairing import Block, LineUp, next_pair, pair, round_robin
from spiral.plugins.registry import Plugins, label
from spiral.policies.results import Ledger, RATED
from spiral.reports.html.tournament_page import tournament_page
from spiral.seeds import derive

Schedule = Literal["round-robin", "rating-matched"]
Show = Callable[[int, int, str], None]
"""show(games done, games in all, who plays now)"""

BATCH = 16
"""Deals that a block plays at a time: what a stop by hand loses, and what the live rating sees at a time."""
MATCHED_BATCH = 4
"""The same of a rating-matched pair, which should not stay together while their ratings move."""
RULES = ("illegal", "penalty", "retries", "max_turns", "deadline_s")
"""What of the first run's `rollout` holds at the table."""
MAX_FAULTS = 20
"""Voided games that are kept with their moves."""


@dataclass(frozen=True)
class Terms:
    """What is asked of a tournament."""

    schedule: Schedule = "round-robin"
    games: int = 100
    """Games of every pair, over all seatings; of a rating-matched tournament, of every player on average and twice."""
    budget: int | None = None
    """Games in all, of a rating-matched tournament; None for `games` a player."""
    anchor: int | None = None
    """The player whose rating is 0; None for a mean of 0."""
    seed: int = 0


class Tournament:
    """One tournament. After `play`, however that ended, `record` says what is known."""

    def __init__(self, field: Field, terms: Terms) -> None:
        if terms.budget is not None and terms.schedule == "round-robin":
            raise SpiralError("--budget belongs to --schedule rating-matched; a round robin takes --games")
        if field.num_chairs == 1 and terms.schedule != "round-robin":
            raise SpiralError(f"{field.game} is for one player: nobody meets; leave out --schedule {terms.schedule}")
        self._field, self._terms = field, terms
        self._names = [one.name for one in field.entrants]
        self._referee = Referee(field)
        self._ledger = Ledger()
        self._unrated: list[Episode] = []
        self._log: dict[tuple[int, ...], Played] = {}
        self.num_games = 0
        """Games that are finished and count."""
        self.stopped: str | None = None
        """Why it ended early."""

    def play(self, show: Show) -> None:
        """Play it all. A stop by hand or a fault of the set-up ends it; what was finished by then counts."""
        try:
            if self._terms.schedule == "round-robin":
                self._round_robin(show)
            else:
                self._rating_matched(show)
        except KeyboardInterrupt:
            self.stopped = "stopped by hand"
        except SpiralError as error:
            self.stopped = str(error)

    def record(self) -> Json:
        """Everything that is known, as JSON values."""
        num, terms, log = len(self._names), self._terms, list(self._log.values())
        extent = crosstable.Extent.of(log)
        graded = extent.graded
        table = crosstable.cells(log, extent)
        seed = derive(terms.seed, "tournament", self._field.game, "bootstrap")
        found = crosstable.summary(log, num, graded, terms.anchor, seed)
        return {
            "game": self._field.game,
            "num_chairs": self._field.num_chairs,
            "terms": asdict(terms) | {"anchor": None if terms.anchor is None else self._names[terms.anchor]},
            "rules": {name: getattr(self._field.config.rollout, name) for name in RULES},
            "games": self.num_games,
            "graded": graded,
            "stopped": self.stopped,
            "players": [self._player(number, found["players"][number], table) for number in range(num)],
            "cells": table,
            **crosstable.rings(table, num, graded),
            "num_faults": len(self._referee.faults),
            "faults": [asdict(fault) for fault in self._referee.faults[:MAX_FAULTS]],
            "notes": self._notes(graded, found["strangers"]),
        }

    def _player(self, number: int, found: Json | None, table: Sequence[Json]) -> Json:
        one = self._field.entrants[number]
        rating = self._ledger.rating(self._field.game, one.name)
        own = [cell["score"] for cell in table if cell["row"] == number]
        results = [r for played in self._log.values() for m in played.meetings for r in m if number in r.line_up]
        return {
            "name": one.name,
            "kind": one.kind,
            "step": one.step,
            "games": len(results),
            "score": sum(own) / len(own) if own else None,
            "illegal": sum(r.offended(number) for r in results) / max(1, len(results)),
            "voided": dict(sorted(Counter(self._referee.failures[number]).items())),
            "withdrawn": number in self._referee.withdrawn,
            "mu": rating.mu,
            "sigma": rating.sigma,
            **(found or {}),
        }

    def _notes(self, graded: bool, strangers: int) -> list[str]:
        notes = [note] if (note := untrained(self._field.game, self._field.entrants)) else []
        if self.stopped:
            notes.append(f"The tournament did not reach its end: {self.stopped}.")
        if graded:
            notes.append(
                "Wins differ in size here, so who wins most often need not win most: worth, the Nash average and "
                "cycles go by the margin, half the difference of two returns; Elo and the live rating count wins."
            )
        if strangers:
            notes.append(f"{strangers} pairs never met; the Nash average takes from the ratings what they would do.")
        return notes + [f"{self._names[number]} {why}." for number, why in self._referee.withdrawn.items()]

    def _round_robin(self, show: Show) -> None:
        blocks = round_robin(self._names, self._field.num_chairs, self._terms.games)
        total = sum(block.num_games for block in blocks)
        for start in range(0, max(block.num_deals for block in blocks), BATCH):
            for block in blocks:
                show(self.num_games, total, block.name)
                if start < block.num_deals:
                    self._play(block, start // BATCH, min(BATCH, block.num_deals - start))
            self._rate()
        show(self.num_games, total, "")

    def _rating_matched(self, show: Show) -> None:
        total = self._terms.budget or self._terms.games * len(self._names)
        rng = random.Random(derive(self._terms.seed, "tournament", self._field.game, "pairs"))
        played: Counter[int] = Counter()
        met: Counter[tuple[int, int]] = Counter()
        while len(staying := [n for n in range(len(self._names)) if n not in self._referee.withdrawn]) >= 2:
            mus = {n: self._ledger.rating(self._field.game, self._names[n]).mu for n in staying}
            two = next_pair(staying, mus, played, met, rng)
            block = pair(self._names, *two, self._field.num_chairs, self._terms.games)
            num_deals = min(MATCHED_BATCH, (total - self.num_games) // len(block.line_ups))
            if num_deals < 1:
                break
            show(self.num_games, total, block.name)
            before = self.num_games
            self._play(block, met[two], num_deals)
            met[two] += 1
            played.update(dict.fromkeys(two, self.num_games - before))
            self._rate()
        show(self.num_games, total, "")

    def _play(self, block: Block, batch: int, num_deals: int) -> None:
        """Play every line-up of a block from the same deals, but those with a player who was withdrawn."""
        line_ups = [line_up for line_up in block.line_ups if not self._referee.withdrawn.keys() & set(line_up)]
        seed = (self._terms.seed, "tournament", self._field.game, block.name, batch)
        games = self._referee.play(line_ups, num_deals, seed)
        alone = self._field.num_chairs == 1
        played = self._log.setdefault(block.players, Played(block.players, alone))
        for deal in zip(*games, strict=True):
            results = [Result(line_up, e.returns, e.offender) for line_up, e in zip(line_ups, deal, strict=True)]
            played.meetings.append(tuple(results))
            self.num_games += len(results)
            if alone:
                everybody = tuple(player for line_up in line_ups for player in line_up)
                self._unrated.append(self._rateable(everybody, [r.returns[0] for r in results]))
            else:
                self._unrated += [self._rateable(r.line_up, r.returns) for r in results]

    def _rateable(self, line_up: LineUp, returns: Sequence[float]) -> Episode:
        """A result as the ledger reads it: by name, and without turns."""
        names = tuple(self._names[player] for player in line_up)
        return Episode(self._field.game, 0, names, tuple(returns), (), (), "finished")

    def _rate(self) -> None:
        """Show the live rating what was played since, in random order: it forgets, and a block is all of one pair."""
        random.Random(derive(self._terms.seed, "tournament", "rate", self.num_games)).shuffle(self._unrated)
        for start in range(0, len(self._unrated), RATED):
            self._ledger.record(self._unrated[start : start + RATED])
        self._unrated = []


def hold(
    words: Sequence[str], game: str | None, terms: Terms, anchor: str | None, command: str, out: Path | None, show: Show
) -> tuple[Json, Path]:
    """Play a tournament of the players that `words` name; its record, and the directory of tournament.json and .html.

    Raises SpiralError, before any game, for whatever cannot be played, and when it ends before a single one counts.
    """
    plugins = Plugins.installed()
    found = entrants(words, plugins)
    named = game_of(game, found, plugins)
    called = re.sub(r"[^A-Za-z0-9_.-]+", "-", label(named.name, named.args))
    out = out or Path("tournaments") / f"{called}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (out / "tournament.json").exists() or (out.exists() and not out.is_dir()):
        raise SpiralError(f"{out} holds something already; give another --out")
    terms = replace(terms, anchor=None if anchor is None else number_of(anchor, found))
    tournament = Tournament(field(found, named, plugins), terms)
    started = time.time()
    tournament.play(show)
    if not tournament.num_games:
        raise SpiralError(f"no game was finished: {tournament.stopped or 'the budget is too small for one deal'}")
    record = {
        **tournament.record(),
        "command": command,
        "versions": {"python": platform.python_version(), **dict(sorted(plugins.distributions.items()))},
        "times": {"started": int(started), "seconds": round(time.time() - started, 1)},
    }
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "tournament.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    _write(out / "tournament.html", tournament_page(record))
    return record, out


def _write(path: Path, text: str) -> None:
    """Replace a file at once, so that nobody sees half of one."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
