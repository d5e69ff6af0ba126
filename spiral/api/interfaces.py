"""The Protocols behind the hooks, with their promises; importing them loads neither torch nor transformers.

A plug-in need not inherit from anything here: having the members is enough. `spiral check NAME` tests the promises.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from spiral.api.errors import IllegalMove
from spiral.api.records import Completion, Episode, PolicyId, Request, Trajectory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from spiral.policies.pool import Pool


class Game(Protocol):
    """One match: a pure function of the deal and the moves; deep-copyable and picklable.

    Optional members, each with the default that holds without it:
    `worst_return: float = -1.0`, the lowest number `returns` can give, which a player who forfeits receives;
    `zero_sum: bool = False`, whether the returns of every finished match add up to 0;
    `perfect_information: bool = False`, whether nothing is hidden, so that `observe` of the player to move tells
    everything that matters for the rest of the match;
    `sample_move(rng) -> str`, a random legal move, for games whose moves cannot be listed;
    `resample(player, rng)`, redraw all that `player` does not know, so that leaks can be tested exactly.
    """

    num_players: int
    rules: str
    """What every player may know before play; may be empty."""

    def reset(self, rng: random.Random) -> None:
        """Start a match. All chance, now and later, comes from `rng`, never from a global."""

    def current_player(self) -> int | None:
        """The player to move, or None when the match is over."""

    def observe(self, player: int) -> str:
        """Everything `player` may know and nothing else; changes nothing."""

    def legal_moves(self) -> list[str] | None:
        """Every move `play` would take now, [] when the match is over; None when moves are free text."""

    def play(self, move: str) -> None:
        """Make the current player's move, or raise `IllegalMove(reason)` and leave the match unchanged."""

    def returns(self) -> list[float]:
        """One number a player, when the match is over."""


@runtime_checkable
class Enumerable(Protocol):
    """Optional: a game whose deals can be listed, which makes exact theory possible.

    All chance must lie in the deal: after `reset_to` the match is a function of the moves alone.
    """

    def deals(self) -> Iterable[tuple[float, Any]]:
        """Every (probability, deal); the probabilities add up to 1."""

    def reset_to(self, deal: Any) -> None:
        """Start a match from this deal."""


class Bot(Protocol):
    """A program that plays. It looks at nothing that `observe(player)` hides, and never changes the game.

    Optional members: `max_concurrent: int = 0`, for a bot that waits for something: above 0, `choose` is called in
    that many threads at once, while other games go on; `state`, see `Stateful`; `external: bool = False`, whether it
    asks somebody outside this process, who cannot be tested; `tried_on: Sequence[str] = ()`, names of the games that
    the conformance kit tries it on, instead of all that are installed.
    """

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        """The move to make for `player`, whose turn it is.

        Raises SpiralError for a game it cannot play, Unavailable when whoever it asks does not answer.
        """


class OpponentSampler(Protocol):
    """Who sits where in the next game.

    Optional members: `record(episode)`, to learn from results; `needs_pool: bool = False`, whether it is of no use
    while the pool holds nobody but the learner.
    """

    def seat(self, game: str, num_players: int, pool: Pool, rng: random.Random) -> list[PolicyId]:
        """One policy a chair, at least one of them the learner; all chance from `rng`."""


@runtime_checkable
class Records(Protocol):
    """A plug-in that wants to see each finished episode, in the order of the games' numbers."""

    def record(self, episode: Episode) -> None: ...


class GameSampler(Protocol):
    """Which game is played next. Optional member: `record(episode)`.

    `choose` changes nothing: each process chooses for its own games. What there is to learn is learnt in `record`.
    """

    def choose(self, rng: random.Random) -> str:
        """The name of one of the run's games; all chance from `rng`."""


class RewardShaper(Protocol):
    """Changes rewards before credit is assigned; applied in the order of the config.

    Changes `Trajectory.reward` and `Turn.reward` only: `returns` stays the game's word. A trajectory's reward includes
    those of its turns.
    """

    def __call__(self, episode: Episode) -> Episode: ...


class AdvantageEstimator(Protocol):
    """Turns returns into credit. Called once a step with the learner's trajectories, in the order of the games.

    Optional members: `min_games_per_deal: int = 1`, for estimators that compare games of one deal;
    `order_dependent: bool = False`, for those whose result depends on the order of the trajectories.
    """

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i, for all i and k."""


class PromptFormat(Protocol):
    """The text around a game: observation -> prompt ids, reply -> move.

    Text from players is encoded as plain text, never as special tokens.
    """

    stop_ids: tuple[int, ...]
    """Ids that end a reply."""

    def encode(self, rules: str, observation: str) -> list[int]:
        """Prompt ids for a decision."""

    def reply(self, move: str) -> list[int] | None:
        """The one reply that says `move`, its stop id included; None if many replies say it (free thinking)."""

    def read(self, reply: Sequence[int]) -> str | None:
        """The move in a finished reply, or None if there is none."""


class Engine(Protocol):
    """Continuous batching: requests come and go at any time. Policies it has no weights for are refused."""

    def submit(self, request: Request) -> None:
        """Queue one request; returns at once."""

    def step(self) -> list[Completion]:
        """Do a bounded amount of work; the replies that it finished, [] while busy or idle."""

    def load_weights(self, policy: PolicyId, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """Replace the policy's weights. Only when no request of that policy is in flight."""

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy and free its memory; nothing if it is not known. Only when none of its requests is in
        flight."""


@runtime_checkable
class Stateful(Protocol):
    """A sampler, curriculum, reward, estimator or bot with a `state`: JSON values, saved with every checkpoint and set
    again on resume."""

    state: dict[str, Any]


class PromptFactory(Protocol):
    """What `register_prompts` registers: bound to the model's tokenizer by the core, `args` by the config."""

    def __call__(self, tokenizer: PreTrainedTokenizerBase, **args: Any) -> PromptFormat: ...


def worst_return(game: Game) -> float:
    """The return of a player who forfeits; see `Game`."""
    return float(getattr(game, "worst_return", -1.0))


def is_zero_sum(game: Game) -> bool:
    """Whether the game declares that its returns add up to 0."""
    return bool(getattr(game, "zero_sum", False))


def has_perfect_information(game: Game) -> bool:
    """Whether the game declares that nothing is hidden."""
    return bool(getattr(game, "perfect_information", False))


def try_move(game: Game, move: str) -> bool:
    """Play a move if it is legal; whether it was."""
    try:
        game.play(move)
    except IllegalMove:
        return False
    return True


def random_legal_move(game: Game, rng: random.Random) -> str:
    """A random legal move: uniform where the moves can be listed, else the game's own `sample_move`.

    Raises ValueError for a free-text game without `sample_move`.
    """
    moves = game.legal_moves()
    if moves is not None:
        return rng.choice(moves)
    sample_move = getattr(game, "sample_move", None)
    if sample_move is None:
        raise ValueError(f"{type(game).__name__} lists no legal moves and has no sample_move(rng)")
    return str(sample_move(rng))
