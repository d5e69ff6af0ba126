"""A game that fails where it is told to, for what has to survive that."""

from __future__ import annotations

import os
import random
import time

from spiral.api.games import IllegalMove


class FaultyGame:
    """Two players move in turn, four times in all; player 0 wins. The move `raise` raises, `hang` never ends, and
    `exit` ends the process; none of these is listed, so that no random player makes it."""

    num_players = 2
    rules = "Say pass."

    def __init__(self) -> None:
        self._moves: list[str] = []

    def reset(self, rng: random.Random) -> None:
        self._moves = []

    def current_player(self) -> int | None:
        return len(self._moves) % 2 if len(self._moves) < 4 else None

    def observe(self, player: int) -> str:
        return f"player {player}: {len(self._moves)} moves"

    def legal_moves(self) -> list[str]:
        return ["pass"] if self.current_player() is not None else []

    def play(self, move: str) -> None:
        if self.current_player() is None or move not in ("pass", "raise", "hang", "exit"):
            raise IllegalMove(f"{move} is not pass, or the match is over")
        if move == "raise":
            raise ZeroDivisionError("as it was told")
        if move == "exit":
            os._exit(1)
        while move == "hang":
            time.sleep(1)
        self._moves.append(move)

    def returns(self) -> list[float]:
        return [1.0, -1.0]


def faulty_games() -> dict[str, type[FaultyGame]]:
    """Label -> what makes a match, as `spiral.arena.game_process.GameHost` takes it."""
    return {"faulty": FaultyGame}
