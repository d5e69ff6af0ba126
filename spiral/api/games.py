"""The Protocol of a game, and what follows from its optional members.

A plug-in need not inherit from anything here: having the members is enough. `spiral check NAME` tests the promises.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

QUESTION = "Answer the question."
"""The `rules` of a question that is no game, such as one of a benchmark. A prompt format without words of its own for
questions treats them as any rules."""


class IllegalMove(Exception):
    """Raised by `Game.play` for a move the rules forbid; the game must be left exactly as it was.

    The message is the reason, shown to a person who plays: "square 4 is taken".
    """


class Game(Protocol):
    """One match: a pure function of the deal and the moves; deep-copyable and picklable.

    Optional members, each with the default that holds without it:
    `worst_return: float = -1.0`, the lowest number `returns` can give, which a player who forfeits receives;
    `zero_sum: bool = False`, whether the returns of every finished match add up to 0;
    `perfect_information: bool = False`, whether nothing is hidden, so that `observe` of the player to move tells
    everything that matters for the rest of the match; to say False is to have `spiral check` test that it is;
    `skills: Mapping[str, float] = {}`, what it takes to be good at it, weights of up to five of `spiral.api.skills`, by
    which an arena's leaderboards are made;
    `sample_move(rng) -> str`, a random legal move, for games whose moves cannot be listed (`SamplesMoves`);
    `resample(player, rng)`, redraw all that `player` does not know, to test exactly for leaks (`Resamplable`);
    `joint_state() -> str`, a name for what all players together have seen, for games in which asking each to observe
    is slow (`joint_state`);
    `judge() -> list[float]`, the returns of a match that is cut here, before its end (`JudgesCutMatches`);
    `messages(player) -> Sequence[(sender, text, kind)]`, what `observe` shows as the messages that it was made of
    (`KeepsMessages`).
    """

    num_players: int
    rules: str
    """What every player may know before play; may be empty. `QUESTION` of a question that is no game."""

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


@runtime_checkable
class SamplesMoves(Protocol):
    """Optional: a game with free-text moves that can draw a legal one."""

    def sample_move(self, rng: random.Random) -> str:
        """A random legal move of the player to move; all chance from `rng`."""


@runtime_checkable
class Resamplable(Protocol):
    """Optional: a game that can redraw what one player does not know."""

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw everything hidden from `player`, whose observation stays as it is; all chance from `rng`."""


@runtime_checkable
class JudgesCutMatches(Protocol):
    """Optional: a game that says what a match is worth that is cut (truncated) before its end."""

    def judge(self) -> list[float]:
        """One number a player, while the match is on; within what the returns promise, and changes nothing."""


@runtime_checkable
class KeepsMessages(Protocol):
    """Optional: a game whose observations are made of messages, for those that lay them out themselves."""

    def messages(self, player: int) -> Sequence[tuple[int, str, str]]:
        """All that `player` was told, in order, as (sender, text, kind); changes nothing. The sender is a player, or -1
        for the game, and the kind a word of the game's, such as PROMPT."""


def worst_return(game: Game) -> float:
    """The return of a player who forfeits; see `Game`."""
    return float(getattr(game, "worst_return", -1.0))


def is_zero_sum(game: Game) -> bool:
    """Whether the game declares that its returns add up to 0."""
    return bool(getattr(game, "zero_sum", False))


def has_perfect_information(game: Game) -> bool:
    """Whether the game declares that nothing is hidden."""
    return bool(getattr(game, "perfect_information", False))


def samples_moves(game: object) -> TypeGuard[SamplesMoves]:
    """Whether a game has the optional method `sample_move`."""
    return callable(getattr(game, "sample_move", None))


def is_resamplable(game: object) -> TypeGuard[Resamplable]:
    """Whether a game has the optional method `resample`."""
    # Not isinstance: from Python 3.12 on, that overlooks a method that `__getattr__` gives to some instances only.
    return callable(getattr(game, "resample", None))


def joint_state(game: Game, player: int, observation: str) -> str:
    """A digest of what all players together have seen, before `player`, who observed `observation`, moves: the game's
    own `joint_state()`, that observation where nothing is hidden, else every player's."""
    own = getattr(game, "joint_state", None)
    if callable(own):
        seen = [str(own())]
    elif has_perfect_information(game):
        seen = [observation]
    else:
        seen = [observation if p == player else game.observe(p) for p in range(game.num_players)]
    # With lengths, so that no two lists of texts are joined to one.
    text = "".join(f"{len(part)}:{part}" for part in seen)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def keeps_messages(game: object) -> TypeGuard[KeepsMessages]:
    """Whether a game has the optional method `messages`."""
    # Not isinstance, for which a setting of that name would do.
    return callable(getattr(game, "messages", None))


def judges_cut_matches(game: object) -> TypeGuard[JudgesCutMatches]:
    """Whether a game has the optional method `judge`."""
    return callable(getattr(game, "judge", None))


def cut_returns(game: Game, judge: bool) -> list[float]:
    """The returns of a match that is cut: the game's own judgement where `judge` asks for it and there is one, else a
    draw, 0 for each player or `worst_return` where that is higher.

    0 is what the returns of a zero-sum game leave for equals, and the centre that a forfeit is scored around. One
    player alone cannot draw: its match is judged where that can be, and otherwise counts as not solved.
    """
    alone, worst = game.num_players == 1, worst_return(game)
    if (judge or alone) and judges_cut_matches(game):
        return [float(r) for r in game.judge()]
    return [worst] if alone else [max(0.0, worst)] * game.num_players


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
    if not samples_moves(game):
        raise ValueError(f"{type(game).__name__} lists no legal moves and has no sample_move(rng)")
    return str(game.sample_move(rng))
