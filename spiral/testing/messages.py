"""Checks `messages` of a game that keeps what its players are told as messages: their form, and that asking changes
nothing. Whether they tell what a player may not know is checked in `information`, as of observations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spiral.api.games import keeps_messages
from spiral.testing.playing import GameFactory, PlayedMatch, Position
from spiral.testing.violations import Violation, doing, short

Told = tuple[tuple[int, str, str], ...]
"""What a player was told, as (sender, text, kind)."""


def messages_of(match: PlayedMatch) -> tuple[Told, ...]:
    """Those to each player, one a player; empty for a game that keeps none. Raises Violation for a wrong form."""
    players = range(match.game.num_players)
    return tuple(_told(match, player) for player in players) if keeps_messages(match.game) else ()


def check_messages(factory: GameFactory, positions: Sequence[Position]) -> None:
    """Of a game with `messages`: each is a sender, a text and a kind, and asking for them changes nothing. Raises
    Violation."""
    if not keeps_messages(factory()):
        return
    for start, moves in positions:
        match = PlayedMatch(factory, start, moves)
        before, told = match.view(), messages_of(match)
        if messages_of(match) != told or match.view() != before:
            raise Violation(
                f"messages(player) changes the match; let no method but reset and play do that {match.where()}"
            )


def _told(match: PlayedMatch, player: int) -> Told:
    with doing(f"messages({player}) {match.where()}"):
        told: Any = list(match.game.messages(player))  # type: ignore[attr-defined]
    for one in told:
        if not isinstance(one, tuple) or len(one) != 3 or not isinstance(one[1], str) or not isinstance(one[2], str):
            raise Violation(
                f"messages({player}) holds {short(one)}; make each a tuple of sender, text and kind {match.where()}"
            )
        sender = one[0]
        if not isinstance(sender, int) or isinstance(sender, bool) or not -1 <= sender < match.game.num_players:
            raise Violation(
                f"messages({player}) has the sender {short(sender)}; make it a player, or -1 for the game "
                f"{match.where()}"
            )
    return tuple((int(sender), str(text), str(kind)) for sender, text, kind in told)
