"""Plays given line-ups from given deals, and keeps count of who gave no move; knows nothing of scores."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from spiral.api.errors import PromptTooLong, RunError
from spiral.api.policies import Unavailable
from spiral.api.games import Game
from spiral.api.policies import Bot
from spiral.api.training import Engine
from spiral.api.records import Episode, Fault, PolicyId, Request
from spiral.evaluation.tournament.entrants import Field
from spiral.evaluation.tournament.pairing import LineUp
from spiral.policies.pool import Pool, Voice
from spiral.api.policies import max_concurrent
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts

PATIENCE = 3
"""Voided games a deal after which a line-up is given up, and whoever failed most withdrawn."""


class Referee:
    """Plays the games of a field. `failures[player]`: causes by which its games were voided, one a game."""

    def __init__(self, field: Field) -> None:
        self._field = field
        failures: dict[PolicyId, list[str]] = {policy: [] for policy in field.policies}
        self.failures = list(failures.values())
        self.faults: list[Fault] = []
        """Games that misbehaved by themselves."""
        self.withdrawn: dict[int, str] = {}
        """Player -> why it plays no more."""
        bots, voices = field.pool.bots, field.pool.voices
        bots.update({p: _WatchedBot(bot, failures[p]) for p, bot in bots.items() if p in failures})
        engines = {id(voice.engine): _WatchedEngine(voice.engine, failures) for voice in voices.values()}
        voices.update({p: replace(voice, engine=engines[id(voice.engine)]) for p, voice in voices.items()})

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
        field = self._field
        rules = replace(field.config.rollout, games_per_deal=1, max_voided=PATIENCE * num_deals)
        # Where only bots sit, nothing is asked of an engine or a prompt format but the ids that end a reply.
        nobody: Any = SimpleNamespace(stop_ids=())
        voice = next(iter(field.pool.voices.values()), Voice(nobody, nobody, nobody))
        rollouts = Rollouts(
            {field.game: field.make},
            Weighted({field.game: 1.0}),
            _Seated([field.policies[player] for player in line_up]),
            field.pool,
            voice.engine,
            voice.prompter,
            rules,
        )
        before = [len(failures) for failures in self.failures]
        try:
            return rollouts.play(num_deals, seed)
        except RunError:
            if not self._withdraw(before, num_deals):
                raise
            return None
        finally:
            self.faults += [fault for fault in rollouts.faults if fault.cause == "game"]

    def _withdraw(self, before: Sequence[int], num_deals: int) -> bool:
        """Whether a player's failures explain that a line-up was given up; then it plays no more."""
        new = [failures[count:] for failures, count in zip(self.failures, before, strict=True)]
        worst = max(range(len(new)), key=lambda player: len(new[player]))
        if len(new[worst]) <= num_deals:
            return False
        causes = ", ".join(f"{times} by {cause}" for cause, times in Counter(new[worst]).most_common())
        self.withdrawn[worst] = f"was withdrawn after {len(new[worst])} voided games in one batch ({causes})"
        return True


class _Seated:
    """The sampler of one line-up."""

    def __init__(self, policies: Sequence[PolicyId]) -> None:
        self._policies = list(policies)

    def seat(self, game: str, num_players: int, pool: Pool, rng: random.Random) -> list[PolicyId]:
        return self._policies


class _WatchedBot:
    """A bot whose failures to answer are kept, cause by cause."""

    def __init__(self, bot: Bot, failures: list[str]) -> None:
        self._bot, self._failures = bot, failures
        self.max_concurrent = max_concurrent(bot)

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        try:
            return self._bot.choose(game, player, rng)
        except Unavailable as error:
            self._failures.append(error.cause)
            raise


class _WatchedEngine:
    """An engine that several policies may share, whose refusals of too long a prompt are kept by policy."""

    def __init__(self, engine: Engine, failures: Mapping[PolicyId, list[str]]) -> None:
        self._engine, self._failures = engine, failures
        self.step, self.load_weights, self.drop = engine.step, engine.load_weights, engine.drop

    def submit(self, request: Request) -> None:
        try:
            self._engine.submit(request)
        except PromptTooLong:
            self._failures[request.policy].append("prompt too long")
            raise
