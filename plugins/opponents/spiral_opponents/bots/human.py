"""A bot that asks a person at this terminal for each move."""

from __future__ import annotations

import random

import click

from spiral import Game, SpiralError, ask_person, printable, wrapped


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
            _show(f"\n{wrapped(game.rules)}")
        _show(f"\nyou are player {player}")
        return ask_person(game, player, _show, _typed_move)


def _show(text: str) -> None:
    print(printable(text), flush=True)


def _typed_move() -> str:
    try:
        typed = str(click.prompt("you", prompt_suffix="> ")).strip()
        return typed.encode(errors="replace").decode()  # bytes that are no UTF-8 arrive as lone surrogates
    except click.Abort:
        raise SpiralError(
            "bot human: the input ended before the match was over; run it at a terminal, or choose another bot"
        ) from None
