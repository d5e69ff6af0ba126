"""One match of a person against a loaded policy, over any way to show text and to ask for a line."""

from __future__ import annotations

import random
from collections.abc import Callable

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.seeds import child

Show = Callable[[str], object]
Ask = Callable[[], str]
"""The person's next line. Raises EOFError when there is none."""


def play_against(policy: LoadedPolicy, game: str | None, player: int, seed: int, show: Show, ask: Ask) -> list[float]:
    """The returns of one match; the person is `player`, the policy every other player. Raises SpiralError."""
    name = policy.game(game)
    match = policy.players.games[name]()
    if not 0 <= player < match.num_players:
        raise SpiralError(f"{name} has players 0 to {match.num_players - 1}, not {player}")
    match.reset(random.Random(seed))
    if match.rules:
        show(match.rules + "\n")
    turn = 0
    while (mover := match.current_player()) is not None:
        if mover == player:
            _ask_person(match, player, show, ask)
        elif not _ask_policy(policy, match, mover, child(seed, turn), show):
            return []
        turn += 1
    returns = match.returns()
    show(f"\n{match.observe(player)}\nover: you get {returns[player]:+g}   (seed {seed})")
    return returns


def _ask_person(match: Game, player: int, show: Show, ask: Ask) -> None:
    moves = match.legal_moves()
    show(f"\n{match.observe(player)}" + (f"\nmoves: {', '.join(moves)}" if moves else ""))
    while True:
        try:
            return match.play(ask().strip())
        except IllegalMove as error:
            show(f"not legal: {error}")
        except EOFError:
            raise SpiralError("the input ended and the match is not over; the seed plays it again") from None


def _ask_policy(policy: LoadedPolicy, match: Game, mover: int, seed: int, show: Show) -> bool:
    """Let the policy move; False if its reply was no legal move, which ends the match."""
    move, wrote = policy.move(match, mover, seed)
    try:
        if move is None:
            raise IllegalMove("it wrote no move")
        match.play(move)
    except IllegalMove as error:
        show(f"player {mover} wrote {wrote!r}, which is not legal ({error}); you win by forfeit")
        return False
    show(f"player {mover}: {move}")
    return True
