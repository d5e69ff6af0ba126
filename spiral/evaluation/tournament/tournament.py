"""Plays a tournament: a round robin or pairs matched by rating, with line-ups balanced and deals shared.

Players are numbers and names here; `crosstable` computes what follows from the results, `record` writes it down.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from spiral.api.errors import SpiralError
from spiral.api.records import Episode
from spiral.evaluation.tournament.crosstable import PairResults, Result
from spiral.evaluation.tournament.entrants import Participants
from spiral.evaluation.tournament.matches import TournamentMatches
from spiral.evaluation.tournament.pairing import Block, LineUp, next_pair, pair, round_robin
from spiral.policies.results import RATED, Results
from spiral.seeds import derive

Schedule = Literal["round-robin", "rating-matched"]
Show = Callable[[int, int, str], None]
"""show(games done, games in all, who plays now)"""

BATCH = 16
"""Deals that a block plays at a time: what a stop by hand loses, and what the live rating sees at a time."""
MATCHED_BATCH = 4
"""The same of a rating-matched pair, which should not stay together while their ratings move."""


@dataclass(frozen=True)
class TournamentConfig:
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

    def __init__(self, participants: Participants, config: TournamentConfig) -> None:
        if config.budget is not None and config.schedule == "round-robin":
            raise SpiralError("--budget belongs to --schedule rating-matched; a round robin takes --games")
        if participants.num_players == 1 and config.schedule != "round-robin":
            raise SpiralError(
                f"{participants.game} has one player, so --schedule {config.schedule} does not apply; omit it"
            )
        self.participants, self.config = participants, config
        self.names = [one.name for one in participants.entrants]
        self.matches = TournamentMatches(participants)
        self.results = Results()
        self._unrated: list[Episode] = []
        self.pair_results: dict[tuple[int, ...], PairResults] = {}
        self.num_games = 0
        """Games that are finished and count."""
        self.stopped: str | None = None
        """Why it ended early."""

    def play(self, show: Show) -> None:
        """Play it all. A stop by hand or a fault of the set-up ends it; what was finished by then counts."""
        try:
            if self.config.schedule == "round-robin":
                self._round_robin(show)
            else:
                self._rating_matched(show)
        except KeyboardInterrupt:
            self.stopped = "stopped by hand"
        except SpiralError as error:
            self.stopped = str(error)

    def add(self, results: Sequence[Result]) -> None:
        """Count games that were played elsewhere, each from a deal of its own, and rate their players."""
        for result in results:
            players = tuple(sorted(set(result.line_up)))
            self.pair_results.setdefault(players, PairResults(players)).meetings.append((result,))
            self.num_games += 1
            self._unrated.append(self._rateable(result.line_up, result.returns))
        self._rate()

    def _round_robin(self, show: Show) -> None:
        blocks = round_robin(self.names, self.participants.num_players, self.config.games)
        total = sum(block.num_games for block in blocks)
        for start in range(0, max(block.num_deals for block in blocks), BATCH):
            for block in blocks:
                show(self.num_games, total, block.name)
                if start < block.num_deals:
                    self._play(block, start // BATCH, min(BATCH, block.num_deals - start))
            self._rate()
        show(self.num_games, total, "")

    def _rating_matched(self, show: Show) -> None:
        total = self.config.budget or self.config.games * len(self.names)
        rng = random.Random(derive(self.config.seed, "tournament", self.participants.game, "pairs"))
        played: Counter[int] = Counter()
        met: Counter[tuple[int, int]] = Counter()
        while len(staying := [n for n in range(len(self.names)) if n not in self.matches.withdrawn]) >= 2:
            mus = {n: self.results.rating(self.participants.game, self.names[n]).mu for n in staying}
            two = next_pair(staying, mus, played, met, rng)
            block = pair(self.names, *two, self.participants.num_players, self.config.games)
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
        line_ups = [line_up for line_up in block.line_ups if not self.matches.withdrawn.keys() & set(line_up)]
        seed = (self.config.seed, "tournament", self.participants.game, block.name, batch)
        games = self.matches.play(line_ups, num_deals, seed)
        alone = self.participants.num_players == 1
        played = self.pair_results.setdefault(block.players, PairResults(block.players, alone))
        for deal in zip(*games, strict=True):
            results = [
                Result(line_up, e.returns, e.offender, e.ending == "cut", e.fault)
                for line_up, e in zip(line_ups, deal, strict=True)
            ]
            played.meetings.append(tuple(results))
            self.num_games += len(results)
            if alone:
                players = tuple(player for line_up in line_ups for player in line_up)
                self._unrated.append(self._rateable(players, [r.returns[0] for r in results]))
            else:
                self._unrated += [self._rateable(r.line_up, r.returns) for r in results]

    def _rateable(self, line_up: LineUp, returns: Sequence[float]) -> Episode:
        """A game as the ratings read it: by name, and without turns."""
        names = tuple(self.names[player] for player in line_up)
        return Episode(self.participants.game, 0, names, tuple(returns), (), (), "finished")

    def _rate(self) -> None:
        """Rate what was played since, in random order: ratings forget, and a block is all of one pair."""
        random.Random(derive(self.config.seed, "tournament", "rate", self.num_games)).shuffle(self._unrated)
        for start in range(0, len(self._unrated), RATED):
            self.results.record(self._unrated[start : start + RATED])
        self._unrated = []
