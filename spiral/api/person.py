"""Asks a person who plays for a move, over any way to show text and to ask for a line."""

from __future__ import annotations

import copy
import shutil
import sys
import textwrap
from collections.abc import Callable

from spiral.api.games import Game, IllegalMove

HELP = "?"
"""What a person types for the rules and the moves, unless it is a move."""

Show = Callable[[str], object]
Ask = Callable[[], str]
"""The person's next line; raises EOFError when there is none."""


def ask_person(game: Game, player: int, show: Show, ask: Ask) -> str:
    """A legal move of a person who is `player`, whose turn it is; it is not played yet. What was read is said, and
    asked again, until it is legal. Raises EOFError when the input ends."""
    moves = game.legal_moves()
    show(f"\n{wrapped(game.observe(player))}")
    show(f"{wrapped(_listed(moves))}   ({HELP} for help)")
    while True:
        typed = ask().strip()
        if typed == HELP and HELP not in (moves or ()):
            show("\n".join(["", *map(wrapped, _help(game, player, moves))]))
            continue
        try:
            # On a copy: the match itself is changed only by the move that is returned.
            copy.deepcopy(game).play(typed)
        except IllegalMove as reason:
            near = [move for move in moves or () if move.casefold() == typed.casefold()]
            hint = f"; did you mean {near[0]}?" if near else ""
            show(wrapped(f"read {typed!r}, which is not legal: {reason}{hint}"))
        else:
            return typed


def wrapped(text: str) -> str:
    """A text whose lines fit the terminal, broken between words; as it is where there is no terminal."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(
        line if len(line) <= width else "\n".join(textwrap.wrap(line, width, break_on_hyphens=False))
        for line in text.split("\n")
    )


def _listed(moves: list[str] | None) -> str:
    if moves is None:
        return "moves: free text"
    if any("," in move for move in moves):  # joined by commas, two moves could not be told from one
        return "moves:\n" + "\n".join(f"  {move}" for move in moves)
    return f"moves: {', '.join(moves)}"


def _help(game: Game, player: int, moves: list[str] | None) -> list[str]:
    """What a person may want to be told: the rules, what can be typed, and how to stop."""
    how = "Type one of these as it stands, and Enter." if moves else "Type your move, and Enter."
    return [
        *([game.rules, ""] if game.rules else []),
        f"You are player {player} of 0 to {game.num_players - 1}.",
        _listed(moves),
        f"{how} Ctrl-D ends the match.",
    ]
