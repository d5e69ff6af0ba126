"""Games played again from their deal and their moves, to compare what is written of them with what they show now."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove, try_move
from spiral.selfplay.examples import Example, by_game
from spiral.selfplay.time_limit import TimeLimit

GAME_DEADLINE_S = 60.0
"""Longest that a game may take over one move."""


def positions(make: Callable[[], Game], deal: int, moves: Sequence[str]) -> Iterator[Game]:
    """One game object before each of `moves`, and after the last."""
    game = make()
    game.reset(random.Random(deal))
    yield game
    for move in moves:
        game.play(move)
        yield game


def check_examples(examples: Sequence[Example], games: Mapping[str, Callable[[], Game]], source: str) -> None:
    """Play every game of `examples` again, as far as they tell it, from `source`, a file.

    Raises SpiralError for a game that is none of `games`, for an example whose move is not legal there or whose
    observation is another one now, and for a game that its own history breaks. An example without deal or history is
    compared with its own list of legal moves alone.
    """
    unknown = Counter(example.game for example in examples if example.game not in games)
    if unknown:
        named = ", ".join(f"{name} ({times:,} examples)" for name, times in unknown.items())
        raise SpiralError(f"{source} holds examples of {named}, which is no game of the run: {', '.join(games)}")
    limit = TimeLimit(GAME_DEADLINE_S)
    limit.start()
    try:
        for of_game in by_game(examples):
            _check_game(of_game, games[of_game[0].game], source, limit)
    finally:
        limit.close()


def _check_game(of_game: Sequence[Example], make: Callable[[], Game], source: str, limit: TimeLimit) -> None:
    told: dict[int, Example] = {}
    longest: tuple[str, ...] = ()
    for e in of_game:
        where = f"{source}, game {e.number}, turn {e.turn}"
        if e.legal_moves is not None and e.move not in e.legal_moves:
            raise _illegal(where, e, f"the legal ones are {', '.join(e.legal_moves)}")
        if e.deal is not None and e.history is not None:
            told[len(e.history)] = e
            longest = max(longest, (*e.history, e.move), key=len)
    if not told:
        return
    first = next(iter(told.values()))
    assert first.deal is not None
    where = f"{source}, game {first.number}"
    try:
        with limit:
            for turn, game in enumerate(positions(make, first.deal, longest)):
                if turn in told:
                    _check_turn(told[turn], game, longest, f"{where}, turn {turn}")
    except SpiralError:
        raise
    except IllegalMove as reason:
        raise SpiralError(
            f"{where}: a move of its history, {list(longest)}, is not legal in {first.game} ({reason}); collect the "
            "games again with the game as it is installed now, or mend the file"
        ) from reason
    except Exception as error:
        raise SpiralError(
            f"{where}: {first.game} failed as the game was played again ({type(error).__name__}: {error}); run: spiral "
            f"check {first.game.partition('(')[0]}"
        ) from error


def _check_turn(e: Example, game: Game, moves: Sequence[str], where: str) -> None:
    if tuple(e.history or ()) != tuple(moves[: len(e.history or ())]):
        raise SpiralError(f"{where}: its history is another one than that of the game's other examples; mend the file")
    if game.current_player() != e.player:
        raise SpiralError(f"{where}: player {game.current_player()} is to move, and not {e.player}; mend the file")
    if game.observe(e.player) != e.observation or game.rules != e.rules:
        raise SpiralError(
            f"{where}: {e.game} shows its player another text now than when the game was played; collect the games "
            "again with the game as it is installed now"
        )
    legal = game.legal_moves()
    if legal is None:
        if not try_move(deepcopy(game), e.move):
            raise _illegal(where, e, "the game refuses it")
    elif e.move not in legal:
        raise _illegal(where, e, f"the legal ones are {', '.join(legal)}")


def _illegal(where: str, e: Example, why: str) -> SpiralError:
    return SpiralError(f"{where}: the move {e.move!r} is not legal in {e.game} ({why}); mend or delete that line")
