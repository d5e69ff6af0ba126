"""Defines `PlayedMatch`, one match under test, and compares two of them move by move.

Any fault of the game on the way is raised as a `Violation` that names the match and its moves, so that the author can
play it again. What a game must keep beyond the form of its answers is checked in `games` and `information`.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from spiral.api.games import Game, IllegalMove, samples_moves
from spiral.testing.violations import Violation, doing, is_finite, short

GameFactory = Callable[[], Game]

MAX_MOVES = 10_000
"""A match of random moves that is longer counts as one that never ends."""
MAX_COMPARED = 200
"""Moves for which two matches are compared. Each position costs two observations a player, and every check compares
many pairs of matches; a difference nearly always shows in the first moves after what caused it."""


class Start(NamedTuple):
    """How a match begins."""

    label: str
    """As a violation names it: "seed 3"."""
    begin: Callable[[Any], None]
    """Called with the game."""


def seeded(seed: int) -> Start:
    """A match from a random deal."""
    return Start(f"seed {seed}", lambda game: game.reset(random.Random(seed)))


def dealt(deal: Any) -> Start:
    """A match from a given deal of an `Enumerable` game."""
    return Start(f"deal {short(deal)}", lambda game: game.reset_to(deal))


Position = tuple[Start, tuple[str, ...]]
"""The start of a match and the moves made since."""


class View(NamedTuple):
    """All that can be observed of a match at one position."""

    player: int | None
    """To move; None when the match is over."""
    observations: tuple[str, ...]
    """One a player."""
    moves: tuple[str, ...] | None
    """The legal moves; None when moves are free text."""
    returns: tuple[float, ...] | None
    """None while the match is on."""


class FinishedMatch(NamedTuple):
    """A match of random legal moves from `seeded(seed)` to its end."""

    seed: int
    moves: tuple[str, ...]
    returns: tuple[float, ...]


class PlayedMatch:
    """A game object with one match in play, and the start and moves that lead to its position.

    Every method that calls the game raises Violation for an exception or an answer of the wrong form.
    """

    def __init__(self, factory: GameFactory, start: Start, moves: Sequence[str] = ()) -> None:
        """Makes a game, starts a match and plays `moves`, all of them legal."""
        self.start = start
        self.moves: list[str] = []
        with doing("making the game"):
            self.game = factory()
        self.begin(start)
        for move in moves:
            self.play(move)

    def begin(self, start: Start) -> None:
        """Start another match on the same game object."""
        self.start, self.moves = start, []
        with doing(f"starting a match with {start.label}"):
            start.begin(self.game)

    def where(self) -> str:
        """The start and the last moves, in parentheses, for the end of a violation."""
        last = ", ".join(short(move, 30) for move in self.moves[-4:])
        after = f"after {len(self.moves)} moves, the last {last}" if self.moves else "before the first move"
        return f"({self.start.label}, {after})"

    def fork(self) -> PlayedMatch:
        """A deep copy that is played on by itself from the same position."""
        other = copy.copy(self)
        other.moves = list(self.moves)
        with doing(f"copy.deepcopy(game) {self.where()}"):
            other.game = copy.deepcopy(self.game)
        return other

    def pickled(self) -> PlayedMatch:
        """A copy of the match after a round trip through pickle."""
        other = copy.copy(self)
        other.moves = list(self.moves)
        with doing(f"pickling and unpickling the game {self.where()}"):
            other.game = pickle.loads(pickle.dumps(self.game))
        return other

    def play(self, move: str) -> None:
        """Make a move that the game listed or sampled as legal."""
        with doing(f"play({short(move)}) {self.where()}"):
            try:
                answer: object = self.game.play(move)  # type: ignore[func-returns-value]
            except IllegalMove as reason:
                source = "sample_move(rng) returned" if self.game.legal_moves() is None else "legal_moves() lists"
                raise Violation(
                    f"{source} {short(move)} and play refuses it ({reason}); make the two agree {self.where()}"
                ) from reason
        if answer is not None:
            raise Violation(f"play({short(move)}) returned {short(answer)}; let it return None {self.where()}")
        self.moves.append(move)

    def try_moves(self, moves: Sequence[str]) -> bool:
        """Make moves that may be illegal here, up to the first that is; whether all were legal."""
        for move in moves:
            with doing(f"play({short(move)}) {self.where()}"):
                try:
                    self.game.play(move)
                except IllegalMove:
                    return False
            self.moves.append(move)
        return True

    def random_move(self, view: View, rng: random.Random) -> str:
        """A random legal move: one of those of `view`, the present view, or a sample of free text."""
        if view.moves is not None:
            return rng.choice(view.moves)
        if not samples_moves(self.game):
            raise Violation(
                "legal_moves() is None, so moves are free text, and there is no sample_move(rng); add one that returns "
                "a random legal move, so that bots and checks can play"
            )
        with doing(f"sample_move(rng) {self.where()}"):
            move: Any = self.game.sample_move(rng)
        if not isinstance(move, str):
            raise Violation(f"sample_move(rng) returned {short(move)}; return a legal move as a str {self.where()}")
        return move

    def view(self) -> View:
        """What can be observed now."""
        game, where = self.game, self.where()
        with doing(f"current_player() {where}"):
            player: Any = game.current_player()
        if player is not None and (not _is_int(player) or not 0 <= player < game.num_players):
            raise Violation(
                f"current_player() is {short(player)}; return a player from 0 to {game.num_players - 1}, or None when "
                f"the match is over {where}"
            )
        observations = tuple(self._observe(p) for p in range(game.num_players))
        return View(player, observations, self._legal_moves(player), self._returns() if player is None else None)

    def _observe(self, player: int) -> str:
        with doing(f"observe({player}) {self.where()}"):
            text: Any = self.game.observe(player)
        if not isinstance(text, str):
            raise Violation(f"observe({player}) is {short(text)}; return a str {self.where()}")
        return text

    def _legal_moves(self, player: int | None) -> tuple[str, ...] | None:
        with doing(f"legal_moves() {self.where()}"):
            moves: Any = self.game.legal_moves()
        if moves is None:
            return None
        if not isinstance(moves, list) or not all(isinstance(move, str) for move in moves):
            raise Violation(f"legal_moves() is {short(moves)}; return a list of str, or None {self.where()}")
        if player is not None and not moves:
            raise Violation(
                f"legal_moves() is empty while the match is on; list the moves of the player to move, or end the match "
                f"{self.where()}"
            )
        if player is None and moves:
            raise Violation(f"legal_moves() lists {short(moves)} when the match is over; return [] {self.where()}")
        if len(set(moves)) < len(moves):
            raise Violation(f"legal_moves() lists a move twice: {short(moves)}; list each move once {self.where()}")
        return tuple(moves)

    def _returns(self) -> tuple[float, ...]:
        with doing(f"returns() {self.where()}"):
            returns: Any = self.game.returns()
        if not isinstance(returns, list | tuple) or len(returns) != self.game.num_players:
            raise Violation(
                f"returns() is {short(returns)}; return a list with one number for each of the "
                f"{self.game.num_players} players {self.where()}"
            )
        if not all(is_finite(amount) for amount in returns):
            raise Violation(f"returns() is {short(returns)}; return finite floats {self.where()}")
        return tuple(returns)


def play_out(match: PlayedMatch, rng: random.Random, limit: int = MAX_MOVES) -> View:
    """Play random legal moves to the end and view every position; the last view.

    Raises Violation if the match is not over after `limit` moves.
    """
    view, num_unchanged = match.view(), 0
    for _ in range(limit):
        if view.player is None:
            return view
        match.play(match.random_move(view, rng))
        before, view = view, match.view()
        num_unchanged = num_unchanged + 1 if view == before else 0
    if view.player is None:
        return view
    unchanged = f"; the last {num_unchanged} legal moves changed no observation" if num_unchanged else ""
    raise Violation(
        f"a match of random legal moves never ends: not over after {limit:,} moves{unchanged}; put a limit on its "
        f"length ({match.start.label})"
    )


def first_difference(
    one: PlayedMatch,
    two: PlayedMatch,
    rng: random.Random,
    before: Callable[[int, int], None] = lambda match, step: None,
) -> str | None:
    """Play the same random legal moves in both for up to MAX_COMPARED moves; the first difference between their views.

    The difference is the end of a sentence; None if the views agree. What is compared is what a player, a bot or a
    rollout can notice: who is to move, all observations, the legal moves and the returns. Attributes or pickles are
    not, since a game may keep a cache. `before(i, step)` is called each time before match i is asked or changed.
    """
    for step in range(MAX_COMPARED):
        before(0, step)
        first = one.view()
        before(1, step)
        second = two.view()
        if first != second:
            return f"{describe_difference(first, second)} {one.where()}"
        if first.player is None:
            return None
        # Both matches are asked for a random move and both get the first one's: if asking a game for a move changes
        # it, then both change alike, and a difference found later is not an artefact of this loop.
        number = rng.getrandbits(32)
        before(0, step)
        move = one.random_move(first, random.Random(number))
        one.play(move)
        before(1, step)
        two.random_move(second, random.Random(number))
        two.play(move)
    return None


def describe_difference(first: View, second: View) -> str | None:
    """The first field in which two views differ, with both values; None if they are equal."""
    if first == second:
        return None
    if first.player != second.player:
        return f"current_player() is {first.player} in one and {second.player} in the other"
    for player, (one, two) in enumerate(zip(first.observations, second.observations, strict=True)):
        if one != two:
            return f"observe({player}) is {short(one)} in one and {short(two)} in the other"
    if first.moves != second.moves:
        return f"legal_moves() is {short(first.moves)} in one and {short(second.moves)} in the other"
    return f"returns() is {first.returns} in one and {second.returns} in the other"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
