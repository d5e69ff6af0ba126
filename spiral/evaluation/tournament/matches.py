"""Plays given line-ups from given deals, counts who gave no move, and withdraws a player that keeps failing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from spiral.api.errors import RunError
from spiral.api.records import Episode, PolicyId, VoidedGame
from spiral.evaluation.matches import MatchRunner
from spiral.evaluation.tournament.entrants import Participants
from spiral.evaluation.tournament.pairing import LineUp
from spiral.selfplay.play import TOO_MANY_TURNS

PATIENCE = 3
"""Voided games a deal after which a line-up is given up, and the player that failed most is withdrawn."""


class TournamentMatches:
    """Plays the games of a tournament. `failures[player]`: causes by which its games were voided, one a game."""

    def __init__(self, participants: Participants) -> None:
        self._participants = participants
        self.failures: list[list[str]] = [[] for _ in participants.policies]
        self.voided: list[VoidedGame] = []
        """Games that misbehaved by themselves, or were cut where `rollout.cut` voids those."""
        self.withdrawn: dict[int, str] = {}
        """Player -> why it plays no more."""

    def play(self, line_ups: Sequence[LineUp], num_deals: int, seed: Sequence[int | str]) -> list[list[Episode]]:
        """Each line-up's games, one a deal and the same deals for all, but where a voided game was replaced.

        All of them or, if one had to be given up since a player kept failing, none. Raises RunError when the game or an
        engine fails.
        """
        games = []
        for line_up in line_ups:
            played = self._play(line_up, num_deals, seed)
            if played is None:
                return []
            games.append(played)
        return games

    def _play(self, line_up: LineUp, num_deals: int, seed: Sequence[int | str]) -> list[Episode] | None:
        p = self._participants
        rules = replace(p.config.rollout, max_voided=PATIENCE * num_deals)
        runner = MatchRunner({p.game: p.make}, p.pool, rules)
        rollouts = runner.rollouts(p.game, [p.policies[player] for player in line_up], self._failed, forfeit=True)
        before = [len(failures) for failures in self.failures]
        try:
            return rollouts.play(num_deals, seed)
        except RunError:
            if not self._withdraw(before, num_deals):
                raise
            return None
        finally:
            self.voided += [game for game in rollouts.voided if game.cause in ("game", TOO_MANY_TURNS)]

    def _failed(self, policy: PolicyId, cause: str) -> None:
        self.failures[self._participants.policies.index(policy)].append(cause)

    def _withdraw(self, before: Sequence[int], num_deals: int) -> bool:
        """Whether a player's failures explain that a line-up was given up; then it plays no more."""
        new = [failures[count:] for failures, count in zip(self.failures, before, strict=True)]
        worst = max(range(len(new)), key=lambda player: len(new[player]))
        if len(new[worst]) <= num_deals:
            return False
        causes = ", ".join(f"{times} by {cause}" for cause, times in Counter(new[worst]).most_common())
        self.withdrawn[worst] = f"was withdrawn after {len(new[worst])} voided games in one batch ({causes})"
        return True
