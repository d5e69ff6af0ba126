"""A bot that plays perfectly by minimax, in any two-player zero-sum game of perfect information small enough."""

import copy
import random
from typing import NamedTuple

from spiral import Enumerable, Game, SpiralError, has_perfect_information, is_zero_sum

NUM_TRIED = 3
"""Random matches by which a game is tried for chance during play."""
MAX_TRIED_MOVES = 50
"""Moves of each; dice of any kind are thrown long before."""


class _Solved(NamedTuple):
    """A position with best play by both: player 0's return, and every move that keeps it."""

    value: float
    moves: tuple[str, ...]
    legal: frozenset[str]
    """Every move, to notice a game whose text does not tell them."""


_Key = tuple[type, str, int, str]
"""Game class, rules (they differ where arguments matter), player to move, observation of that player."""


class PerfectBot:
    """Minimax for two-player zero-sum games of perfect information; uniform among the best moves.

    Each position is solved once and remembered for the life of the bot. A game whose search needs more than
    `max_positions` positions is refused, so that the bot never hangs on a game too large for it.
    """

    def __init__(self, max_positions: int = 20_000) -> None:
        if max_positions < 1:
            raise SpiralError(f"perfect got max_positions={max_positions}; it must be 1 or more.")
        self.max_positions = max_positions
        self._solved: dict[_Key, _Solved] = {}

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        if _key(game, player) not in self._solved:
            # The checks cost a call of each member, and a position that was solved comes from a game that passed them.
            _require_solvable(game)
        try:
            solved = self._solve(game, player)
        except RecursionError as error:
            name = type(game).__name__
            raise SpiralError(
                f"The bot perfect cannot play {name}: its matches are too long; choose another bot."
            ) from error
        return rng.choice(solved.moves)

    def _solve(self, game: Game, player: int) -> _Solved:
        key = _key(game, player)
        moves = game.legal_moves() or []
        legal = frozenset(moves)
        solved = self._solved.get(key)
        if solved is not None and solved.legal == legal:
            return solved
        if solved is not None:
            raise SpiralError(
                f"The bot perfect cannot play {type(game).__name__}: it declares perfect_information, and other moves "
                "are legal after another match that shows the same; run spiral check, or choose another bot."
            )
        if len(self._solved) >= self.max_positions:
            raise SpiralError(
                f"The bot perfect gave up on {type(game).__name__} after {self.max_positions} positions; "
                "raise max_positions or choose another bot."
            )
        values = {move: self._value_after(game, move) for move in moves}
        # Values are player 0's returns, so player 1 looks for the smallest.
        best = max(values.values()) if player == 0 else min(values.values())
        solved = _Solved(best, tuple(move for move, value in values.items() if value == best), legal)
        self._solved[key] = solved
        return solved

    def _value_after(self, game: Game, move: str) -> float:
        after = copy.deepcopy(game)
        after.play(move)
        player = after.current_player()
        return after.returns()[0] if player is None else self._solve(after, player).value


def _key(game: Game, player: int) -> _Key:
    return type(game), game.rules, player, game.observe(player)


def _is_deterministic(game: Game) -> bool:
    """Whether no chance comes during play: what lists its deals promises that; of other games, a few random matches
    must go alike from every seed."""
    if isinstance(game, Enumerable):
        return True
    return all(_go_alike([_restarted(game, seed) for seed in range(2)], random.Random(n)) for n in range(NUM_TRIED))


def _restarted(game: Game, seed: int) -> Game:
    match = copy.deepcopy(game)
    match.reset(random.Random(seed))
    return match


def _go_alike(matches: list[Game], rng: random.Random) -> bool:
    """Whether the same random moves show the same in all matches."""
    for _ in range(MAX_TRIED_MOVES):
        players = {match.current_player() for match in matches}
        if len(players) > 1:
            return False
        (player,) = players
        if player is None:
            return len({tuple(match.returns()) for match in matches}) == 1
        if len({(match.observe(player), *(match.legal_moves() or [])) for match in matches}) > 1:
            return False
        move = rng.choice(matches[0].legal_moves() or [])
        for match in matches:
            match.play(move)
    return True


def _require_solvable(game: Game) -> None:
    """Raise SpiralError naming what the search needs and the game lacks."""
    lacks = ""
    if game.num_players != 2:
        lacks = "it does not have two players"
    elif not is_zero_sum(game):
        lacks = "it does not declare zero_sum"
    elif not has_perfect_information(game):
        lacks = "it does not declare perfect_information"
    elif game.legal_moves() is None:
        lacks = "it does not list its legal moves"
    elif not _is_deterministic(game):
        # A copy of the game would copy the generator too, and the search would foresee the dice.
        lacks = "matches from two seeds go two ways, so chance may come during play"
    if lacks:
        raise SpiralError(f"The bot perfect cannot play {type(game).__name__}: {lacks}; choose another bot.")
