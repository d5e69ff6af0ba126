"""Plays matches and compares them, for the conformance kit; it knows how to look at a game, not what is promised.

Whatever a game does wrong on the way becomes `Broken`, with the match and the moves that show it again.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from spiral.api.games import Game, IllegalMove
from spiral.testing.violations import Broken, doing, is_finite, short

GameFactory = Callable[[], Game]

MAX_MOVES = 10_000
"""A match with more moves never ends, as far as the kit is concerned."""
MAX_COMPARED = 200
"""Moves for which two matches are followed side by side."""


class Start(NamedTuple):
    """How a match begins."""

    label: str
    begin: Callable[[Any], None]


def seeded(seed: int) -> Start:
    """A match from a random deal."""
    return Start(f"seed {seed}", lambda game: game.reset(random.Random(seed)))


def dealt(deal: Any) -> Start:
    """A match from a given deal of an `Enumerable` game."""
    return Start(f"deal {short(deal)}", lambda game: game.reset_to(deal))


class View(NamedTuple):
    """All that can be seen of a match at one moment."""

    player: int | None
    seen: tuple[str, ...]
    moves: tuple[str, ...] | None
    returns: tuple[float, ...] | None


class Table:
    """One match in play, with its history so that a fault can be named and seen again."""

    def __init__(self, factory: GameFactory, start: Start, moves: Sequence[str] = ()) -> None:
        self.start = start
        self.moves: list[str] = []
        with doing("making the game"):
            self.game = factory()
        self.begin(start)
        for move in moves:
            self.play(move)

    def begin(self, start: Start) -> None:
        """Start a match on the same object."""
        self.start, self.moves = start, []
        with doing(f"starting a match with {start.label}"):
            start.begin(self.game)

    def where(self) -> str:
        """Which match this is, and how far it got."""
        last = ", ".join(short(move, 30) for move in self.moves[-4:])
        after = f"after {len(self.moves)} moves, the last {last}" if self.moves else "before the first move"
        return f"({self.start.label}, {after})"

    def fork(self) -> Table:
        """A match of its own that stands where this one does."""
        other = copy.copy(self)
        other.moves = list(self.moves)
        with doing(f"copy.deepcopy(game) {self.where()}"):
            other.game = copy.deepcopy(self.game)
        return other

    def pickled(self) -> Table:
        """The match after a round trip through pickle."""
        other = copy.copy(self)
        other.moves = list(self.moves)
        with doing(f"pickling and unpickling the game {self.where()}"):
            other.game = pickle.loads(pickle.dumps(self.game))
        return other

    def play(self, move: str) -> None:
        """Make a move that is supposed to be legal."""
        with doing(f"play({short(move)}) {self.where()}"):
            try:
                answer: object = self.game.play(move)  # type: ignore[func-returns-value]
            except IllegalMove as reason:
                source = "sample_move(rng) gave" if self.game.legal_moves() is None else "legal_moves() lists"
                raise Broken(
                    f"{source} {short(move)} and play refuses it ({reason}); make the two agree {self.where()}"
                ) from reason
        if answer is not None:
            raise Broken(f"play({short(move)}) returned {short(answer)}; it returns nothing {self.where()}")
        self.moves.append(move)

    def follows(self, moves: Sequence[str]) -> bool:
        """Make moves that may be illegal here; whether all were taken."""
        for move in moves:
            with doing(f"play({short(move)}) {self.where()}"):
                try:
                    self.game.play(move)
                except IllegalMove:
                    return False
            self.moves.append(move)
        return True

    def random_move(self, view: View, rng: random.Random) -> str:
        """A legal move: one of `view`, which must be the present one, or a sample of free text."""
        if view.moves is not None:
            return rng.choice(view.moves)
        sample_move = getattr(self.game, "sample_move", None)
        if not callable(sample_move):
            raise Broken(
                "legal_moves() is None, so moves are free text, and there is no sample_move(rng); add one that returns "
                "a random legal move, so that bots and checks can play"
            )
        with doing(f"sample_move(rng) {self.where()}"):
            move: Any = sample_move(rng)
        if not isinstance(move, str):
            raise Broken(f"sample_move(rng) gave {short(move)}, not a str {self.where()}")
        return move

    def look(self) -> View:
        """What can be seen now. Raises Broken for anything that is not of the promised form."""
        game, where = self.game, self.where()
        with doing(f"current_player() {where}"):
            player: Any = game.current_player()
        if player is not None and (not _is_int(player) or not 0 <= player < game.num_players):
            raise Broken(
                f"current_player() is {short(player)}, neither None nor a player from 0 to {game.num_players - 1} "
                f"{where}"
            )
        seen = tuple(self._observe(p) for p in range(game.num_players))
        return View(player, seen, self._legal_moves(player), self._returns() if player is None else None)

    def _observe(self, player: int) -> str:
        with doing(f"observe({player}) {self.where()}"):
            text: Any = self.game.observe(player)
        if not isinstance(text, str):
            raise Broken(f"observe({player}) is {short(text)}, not a str {self.where()}")
        return text

    def _legal_moves(self, player: int | None) -> tuple[str, ...] | None:
        with doing(f"legal_moves() {self.where()}"):
            moves: Any = self.game.legal_moves()
        if moves is None:
            return None
        if not isinstance(moves, list) or not all(isinstance(move, str) for move in moves):
            raise Broken(f"legal_moves() is {short(moves)}, neither None nor a list of str {self.where()}")
        if player is not None and not moves:
            raise Broken(f"legal_moves() is empty while the match is on {self.where()}")
        if player is None and moves:
            raise Broken(f"legal_moves() lists {short(moves)} when the match is over; return [] {self.where()}")
        if len(set(moves)) < len(moves):
            raise Broken(f"legal_moves() lists a move twice: {short(moves)} {self.where()}")
        return tuple(moves)

    def _returns(self) -> tuple[float, ...]:
        with doing(f"returns() {self.where()}"):
            returns: Any = self.game.returns()
        if not isinstance(returns, list | tuple) or len(returns) != self.game.num_players:
            raise Broken(
                f"returns() is {short(returns)}, not a list with one number for each of the {self.game.num_players} "
                f"players {self.where()}"
            )
        if not all(is_finite(amount) for amount in returns):
            raise Broken(f"returns() is {short(returns)}, and must be finite floats {self.where()}")
        return tuple(returns)


def play_out(table: Table, rng: random.Random, limit: int = MAX_MOVES) -> View:
    """Play random legal moves to the end, looking at everything on the way. Raises Broken if there is no end."""
    view, still = table.look(), 0
    for _ in range(limit):
        if view.player is None:
            return view
        table.play(table.random_move(view, rng))
        before, view = view, table.look()
        still = still + 1 if view == before else 0
    if view.player is None:
        return view
    moved = f"; the last {still} legal moves changed nothing that anybody can see" if still else ""
    raise Broken(
        f"a match of random legal moves never ends: not over after {limit:,} moves{moved}; put a limit on its length "
        f"({table.start.label})"
    )


def same_future(
    one: Table, two: Table, rng: random.Random, before: Callable[[int, int], None] = lambda table, step: None
) -> str | None:
    """Play both on with the same random legal moves: how they first differ, as a sentence's end; None if they agree.

    `before(i, step)` is called whenever match i is about to be touched.
    """
    for step in range(MAX_COMPARED):
        before(0, step)
        left = one.look()
        before(1, step)
        right = two.look()
        if left != right:
            return f"{difference(left, right)} {one.where()}"
        if left.player is None:
            return None
        # Both are asked for a move, so that asking, were it to change a match, would change both alike.
        number = rng.getrandbits(32)
        before(0, step)
        move = one.random_move(left, random.Random(number))
        one.play(move)
        before(1, step)
        two.random_move(right, random.Random(number))
        two.play(move)
    return None


def difference(left: View, right: View) -> str:
    """What is not the same in two views."""
    if left.player != right.player:
        return f"current_player() is {left.player} in one and {right.player} in the other"
    for player, (one, two) in enumerate(zip(left.seen, right.seen, strict=True)):
        if one != two:
            return f"observe({player}) is {short(one)} in one and {short(two)} in the other"
    if left.moves != right.moves:
        return f"legal_moves() is {short(left.moves)} in one and {short(right.moves)} in the other"
    return f"returns() is {left.returns} in one and {right.returns} in the other"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
