"""A bot that asks a person at this terminal for each move."""

from __future__ import annotations

import copy
import random

import click

from spiral import Game, IllegalMove, SpiralError, printable


class Human:
    """A person at this terminal, who is shown what the player may know and asked again after an illegal move."""

    external = True
    """No check tries it out: that would take a person's time."""

    def __init__(self) -> None:
        self._shown_rules: set[str] = set()
        self._match: Game | None = None

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        """A legal move. Raises SpiralError when the input ends."""
        if self._match is not None and self._match is not game:  # several matches may be in play at once
            print("\n---- another match ----", flush=True)
        self._match = game
        if game.rules and game.rules not in self._shown_rules:
            self._shown_rules.add(game.rules)
            print("\n" + printable(game.rules), flush=True)
        print(f"\nyou are player {player}\n{printable(game.observe(player))}", flush=True)
        if moves := game.legal_moves():
            print(f"moves: {printable(', '.join(moves))}", flush=True)
        while True:
            move = _typed_move()
            try:
                # On a copy: the match itself is changed only by the move that is returned.
                copy.deepcopy(game).play(move)
            except IllegalMove as reason:
                print(f"not legal: {printable(str(reason))}", flush=True)
            else:
                return move


def _typed_move() -> str:
    try:
        typed = str(click.prompt("you", prompt_suffix="> ")).strip()
        return typed.encode(errors="replace").decode()  # bytes that are no UTF-8 arrive as lone surrogates
    except click.Abort:
        raise SpiralError(
            "bot human: the input ended before the match was over; run it at a terminal, or choose another bot"
        ) from None
