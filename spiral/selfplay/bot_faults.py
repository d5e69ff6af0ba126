"""Asks a bot for a move, and tells what is the bot's fault from what is the game's, a refusal or an outage.

Apart from `match`, since the checks at start and the threads of slow bots ask too, and all must judge alike.
"""

from __future__ import annotations

import random

from spiral.api.errors import SpiralError
from spiral.api.games import Game, IllegalMove, has_perfect_information
from spiral.api.policies import Bot, Unavailable

ILLEGAL, NO_TEXT, RAISED, CHANGED = "illegal move", "no text", "exception", "changed game"
"""The faults of a bot, as games that were voided or forfeited for them are counted."""


class BotFault(Exception):
    """A bot broke a promise of `spiral.api.policies.Bot`; the message is what it did, to follow the bot's name."""

    def __init__(self, fault: str, what: str) -> None:
        """`fault`: one of this module's."""
        super().__init__(what)
        self.fault = fault


def choose(bot: Bot, game: Game, player: int, rng: random.Random) -> str:
    """The text that a bot gives as its move. Raises BotFault, SpiralError for a game that the bot refuses, Unavailable,
    or what the game itself raised."""
    before = _seen(game, player)
    try:
        move: object = bot.choose(game, player, rng)
    except (SpiralError, Unavailable):
        raise
    except (Exception, SystemExit) as error:
        # A search asks the game so often that its time ends inside the game; how often is the bot's choice.
        if not isinstance(error, TimeoutError | IllegalMove) and is_from(game, error):
            raise
        raise raised(error) from error
    # Before the move is looked at: what is legal in a game that was changed says nothing.
    if not _still(game, player, before):
        raise BotFault(CHANGED, "changed the game that it was shown")
    if not isinstance(move, str):
        raise BotFault(NO_TEXT, f"gave a {type(move).__name__} as its move, not text")
    return move


def raised(error: BaseException) -> BotFault:
    """The fault of an exception."""
    return BotFault(RAISED, f"raised {type(error).__name__}: {error}")


def illegal_move(move: str, reason: IllegalMove) -> BotFault:
    """The fault of a move that the game refused."""
    return BotFault(ILLEGAL, f"made the move {move!r}, which is not legal ({reason})")


def _seen(game: Game, player: int) -> tuple[str, ...]:
    """What a change of the game would show in; where nothing is hidden, one observation tells everything that matters.

    Compared instead of giving every bot a deep copy, which costs up to a hundred times as much.
    """
    shown = (player,) if has_perfect_information(game) else range(game.num_players)
    return tuple([game.observe(p) for p in shown])


def _still(game: Game, player: int, before: tuple[str, ...]) -> bool:
    try:
        return game.current_player() == player and _seen(game, player) == before
    except TimeoutError:
        raise
    except Exception:
        return False  # it could be observed before the bot was asked


def is_from(game: Game, error: BaseException) -> bool:
    """Whether an exception passed through a method of the game's class, on this game or on a copy."""
    trace = error.__traceback__
    while trace is not None:
        if isinstance(trace.tb_frame.f_locals.get("self"), type(game)):
            return True
        trace = trace.tb_next
    return False
