"""One match of a person against a loaded policy, over any way to show text and to ask for a line."""

from __future__ import annotations

import random

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove
from spiral.api.person import Ask, Show, ask_person, wrapped
from spiral.api.records import Turn
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.seeds import child


def play_against(policy: LoadedPolicy, game: str | None, player: int, seed: int, show: Show, ask: Ask) -> list[float]:
    """The returns of one match; the person is `player`, the policy every other player. Raises SpiralError."""
    name = policy.game(game)
    match = policy.players.games[name]()
    if not 0 <= player < match.num_players:
        raise SpiralError(f"{name} has players 0 to {match.num_players - 1}, not {player}")
    match.reset(random.Random(seed))
    if match.rules:
        show(wrapped(match.rules) + "\n")
    turn = 0
    turns: dict[int, list[Turn]] = {}
    while (mover := match.current_player()) is not None:
        if mover == player:
            try:
                match.play(ask_person(match, player, show, ask))
            except EOFError:
                raise SpiralError("the input ended and the match is not over; the seed plays it again") from None
        elif not _ask_policy(policy, match, mover, child(seed, turn), show, turns.setdefault(mover, [])):
            return []
        turn += 1
    returns = match.returns()
    show(f"\n{wrapped(match.observe(player))}\nover: you get {returns[player]:+g}   (seed {seed})")
    return returns


def _ask_policy(policy: LoadedPolicy, match: Game, mover: int, seed: int, show: Show, turns: list[Turn]) -> bool:
    """Let the policy move, after its own `turns`, to which this one is added; False if, as often as `rollout.retries`
    lets it be asked again, its move was not legal, which ends the match."""
    left = policy.config.rollout.retries
    for attempt in range(left + 1):
        turn, wrote = policy.turn(match, mover, child(seed, attempt), turns)
        turns.append(turn)
        try:
            if turn.move is None:
                raise IllegalMove("it wrote no move")
            match.play(turn.move)
        except IllegalMove as error:
            then = "it is asked again" if attempt < left else "you win by forfeit"
            show(wrapped(f"player {mover} wrote {wrote!r}, which is not legal ({error}); {then}"))
        else:
            show(wrapped(f"player {mover}: {turn.move}"))
            return True
    return False
