"""The Protocols of bots and opponent samplers, and the view of the pool that a sampler is given."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from spiral.api.games import Game
from spiral.api.records import Episode, PolicyId


class Unavailable(Exception):
    """Raised by a bot whose remote model or person gave no move: the match is voided and trains no player.

    `cause` is a word or two that such failures are counted by, such as `timeout` or `http 429`.
    """

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause


class Declined(Unavailable):
    """Raised by a bot that does not take the match it is asked in, such as one for people when none is there: the match
    is played by a line-up that is drawn anew, and does not count as voided."""


class SaidMove(str):
    """A move that a bot read in a text, such as a language model's reply with its thoughts: that text is `reply`."""

    reply: str

    def __new__(cls, move: str, reply: str) -> SaidMove:
        said = super().__new__(cls, move)
        said.reply = reply
        return said

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # for copies
        return str(self), self.reply


class Bot(Protocol):
    """A program that plays. It reads nothing that `observe(player)` hides, and never changes the game.

    Optional members, each with the default that holds without it:
    `max_concurrent: int = 0`, for a bot that waits for something: above 0, `choose` is called in that many threads at
    once, while other games go on;
    `state`, see `Stateful`;
    `keep_in(folder)`, for what must not be forgotten, see `KeepsFiles`;
    `match_begins(game, name)`, to be told which game a match is of, see `HearsStarts`;
    `match_over(game, episode)`, to be told how matches ended, see `HearsEnds`;
    `identity`, `spent` and `answer(messages, rng)`, to judge texts as well, see `ChatModel`;
    `single: bool = False`, whether one process of a run has to play all of its matches, such as a bot with a page;
    `external: bool = False`, whether a process or person outside this program decides, who cannot be tested;
    `tried_on: Sequence[str] = ()`, names of the games that the conformance kit tries it on, instead of all that are
    installed.
    """

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        """A legal move for `player`, whose turn it is; of an external bot, any text. A `SaidMove` where it was read in
        a longer one, which is kept with the turn.

        Raises SpiralError for a game it cannot play, Unavailable when the remote model or person does not answer,
        Declined when it does not take this match.
        Whatever else it raises or gives is the bot's own fault: it voids the match, and in a tournament loses it.
        """


@runtime_checkable
class KeepsFiles(Protocol):
    """Optional: a bot with something that neither a kill nor a rollback may undo, such as money spent."""

    def keep_in(self, folder: Path) -> None:
        """Called once, before play, with a folder of the run: the same for all of its processes and after a resume. It
        may not be there yet, and holds the files of other bots too."""


@runtime_checkable
class HearsStarts(Protocol):
    """Optional: a bot that is told which game a match is of, such as one whose people choose."""

    def match_begins(self, game: Game, name: str) -> None:
        """Called before the first question of a match that it is in, with the object that `choose` will be given, and
        the game's label in the run's tables."""


@runtime_checkable
class HearsEnds(Protocol):
    """Optional: a bot that is told how its matches ended, such as one for people, who want to know."""

    def match_over(self, game: Game, episode: Episode | None) -> None:
        """Called when a match that it is in ended, with the object that `choose` was given, which it may look at until
        this returns; None for a match that was voided. Also for a match in which it was never asked."""


@runtime_checkable
class ChatModel(Protocol):
    """Optional: a bot that answers messages of any chat too, so that it can judge texts as well as play."""

    @property
    def identity(self) -> str:
        """What an answer depends on beside the messages, such as server, model and temperature; shows no secret."""

    @property
    def spent(self) -> Mapping[str, Any]:
        """Calls, tokens and cost so far; JSON values."""

    def answer(self, messages: Sequence[Mapping[str, str]], rng: random.Random) -> str:
        """The whole reply to messages of `role` and `content`. Raises as `choose` does."""


def max_concurrent(bot: Bot) -> int:
    """How many threads may call the bot's `choose` at once; 0 for a bot that is asked where the game is played."""
    return max(0, int(getattr(bot, "max_concurrent", 0)))


def is_single(bot: object) -> bool:
    """Whether the bot declares that one process of a run has to play all of its matches."""
    return bool(getattr(bot, "single", False))


def is_external(bot: object) -> bool:
    """Whether the bot, or the factory of one, declares that a process or person outside this program decides."""
    return bool(getattr(bot, "external", False))


def tried_on(bot: object) -> Sequence[str]:
    """The games that the bot, or the factory of one, asks to be tried on; empty for all that are installed."""
    return tuple(getattr(bot, "tried_on", ()))


@dataclass(frozen=True)
class Rating:
    """A Plackett-Luce skill (openskill; Weng and Lin, JMLR 12, 2011): a normal belief on a scale where a new player
    has mu 25, sigma 25/3."""

    mu: float = 25.0
    sigma: float = 25.0 / 3.0

    @property
    def low(self) -> float:
        """mu - 3 sigma: what the player is worth with near certainty, as TrueSkill's tables rank."""
        return self.mu - 3 * self.sigma


class ResultsView(Protocol):
    """What an opponent sampler may read of the results so far, of the learner that the game is played for."""

    def score(self, game: str, opponent: PolicyId) -> float:
        """The learner's recent share of wins over `opponent`, draws as halves; 1/2 before any game."""

    def rating(self, game: str, policy: PolicyId) -> Rating:
        """The policy's rating in a game; that of a new player if it never met another policy there."""


class PoolView(Protocol):
    """What an opponent sampler may read of the run's policies.

    A run may train several policies; each game is then played for one of them, `learner`.
    """

    @property
    def learner(self) -> PolicyId:
        """The policy in training that the game is played for."""

    @property
    def learners(self) -> list[PolicyId]:
        """All policies in training, the main one first. Whichever of them plays in a game is trained on its part."""

    @property
    def snapshots(self) -> list[PolicyId]:
        """The learner's past versions, oldest first."""

    def snapshots_of(self, learner: PolicyId) -> list[PolicyId]:
        """The past versions of any policy in training, oldest first."""

    @property
    def results(self) -> ResultsView:
        """Scores and ratings."""

    def members(self, game: str) -> list[PolicyId]:
        """The policies that the config names and that play `game`, in its order."""

    def opponents(self, game: str) -> list[PolicyId]:
        """All that can play against the learner in `game` and are not in training: its snapshots, oldest first, those
        of the other learners, then the members."""

    def named(self, name: str) -> PolicyId | None:
        """The policy that the config calls `name`: `learner`, one of `learners`, or a member of the pool."""

    def bot(self, name: str, **args: Any) -> PolicyId:
        """The id of a bot, made on first use. Raises PluginError for a name or arguments that do not fit."""


class OpponentSampler(Protocol):
    """Decides which policy plays for which player of the next game.

    Optional members: `record(episode)`, to learn from results; `needs_pool: bool = False`, whether it is of no use
    while the pool holds the learner alone; `uses_members: bool = True`, whether it may ever seat a member of the pool;
    `profile(game, num_players, pool)`, of one whose line-up never changes, see `fixed_profile`.
    """

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        """One policy a player, at least one of them in training: `pool.learner`, unless players are given to policies
        for good; all chance from `rng`."""


def needs_pool(sampler: OpponentSampler) -> bool:
    """Whether the sampler is of no use while the pool holds the learner alone."""
    return bool(getattr(sampler, "needs_pool", False))


def fixed_profile(sampler: OpponentSampler, game: str, num_players: int, pool: PoolView) -> list[PolicyId] | None:
    """The policies in training that play for each player in every game of this sampler, which then are one profile of
    strategies, evaluated together; None for a sampler whose line-ups change."""
    profile = getattr(sampler, "profile", None)
    found = None if profile is None else profile(game, num_players, pool)
    return None if found is None else list(found)


def uses_members(sampler: OpponentSampler) -> bool:
    """Whether the sampler may ever seat one of `pool.members`."""
    return bool(getattr(sampler, "uses_members", True))
