"""A match played again from its moves: what each player saw, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import View
from spiral.arena.records import Move


@dataclass(frozen=True)
class Seen:
    """One turn as it was played."""

    number: int
    move: Move
    observation: str
    """What the player who moved saw that was new to it; all of it where nothing had been seen before."""
    others: tuple[tuple[int, str], ...]
    """Seat and the same of the players who did not move, where it differs."""


@dataclass(frozen=True)
class Replay:
    """A match from its first turn to its last."""

    turns: tuple[Seen, ...]
    last: tuple[str, ...]
    """What each seat saw at the end."""


def replayed(host: GameHost, game: str, seed: int, moves: Sequence[Move]) -> Replay:
    """Play the legal moves again in the game's process. An illegal one was made in the position before it. Raises
    GameFault."""
    views = positions(host, game, seed, moves)
    known = [""] * len(views[0].observations)
    turns = []
    for number, move in enumerate(moves):
        view = views[number]
        mine = news(known[move.seat], view.observations[move.seat])
        others = [
            (seat, news(known[seat], text))
            for seat, text in enumerate(view.observations)
            if seat != move.seat and text != view.observations[move.seat]
        ]
        known = list(view.observations)
        turns.append(Seen(number, move, mine, tuple(others)))
    last = views[len(moves)].observations
    return Replay(tuple(turns), tuple(news(known[seat], text) for seat, text in enumerate(last)))


def positions(host: GameHost, game: str, seed: int, moves: Sequence[Move]) -> list[View]:
    """The match before each move, legal or not, and after the last. Raises GameFault."""
    views = host.replay(game, seed, [move.move for move in moves if move.legal])
    found, at = [views[0]], 0
    for move in moves:
        at += move.legal
        found.append(views[at])
    return found


def news(before: str, now: str) -> str:
    """What `now` adds to `before`, in whole lines; all of `now` where the two begin otherwise or it adds nothing. Many
    games show all that was ever said, each time."""
    same = 0
    old, new = before.splitlines(keepends=True), now.splitlines(keepends=True)
    while same < min(len(old), len(new)) and old[same].rstrip("\n") == new[same].rstrip("\n"):
        same += 1
    return "".join(new[same:]) or now
