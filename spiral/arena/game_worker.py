"""What runs in a process that plays games: it makes them, moves in them, and says how they stand."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from spiral.api.games import Game, IllegalMove, has_perfect_information, keeps_messages, samples_moves, worst_return
from spiral.api.skills import skills_of
from spiral.config.schema import PluginConfig
from spiral.plugins.registry import Plugins, label


@dataclass(frozen=True)
class View:
    """A match as it stands; for the server alone, since it holds what each player sees."""

    to_move: int | None
    """The seat; None when the match is over."""
    observations: tuple[str, ...]
    """One a seat."""
    legal_moves: tuple[str, ...] | None
    """Of the seat to move; None when moves are free text."""
    rules: str
    worst_return: float
    """What a player gets who forfeits."""
    returns: tuple[float, ...] | None
    """One a seat, when the match is over."""
    perfect_information: bool = False
    """Whether the game declares that nothing is hidden, so that the match may be shown to spectators."""


Games = Callable[[], Mapping[str, Callable[[], Game]]]
"""Makes label -> what makes a match."""


def installed(games: Sequence[PluginConfig]) -> Games:
    """The games of installed plug-ins."""
    return functools.partial(_bound, tuple(games))


def _bound(games: Sequence[PluginConfig]) -> dict[str, Callable[[], Game]]:
    plugins = Plugins.installed()
    return {label(one.name, one.args): plugins.bound("game", one.name, one.args) for one in games}


def serve(connection: Connection, games: Games) -> None:
    """Answer requests, one after another, until the connection closes."""
    makers = games()
    for make in makers.values():
        # An adapter imports its library when its first game is made, which may take longer than a move.
        with suppress(Exception):
            make()
    playing: dict[int, Game] = {}
    connection.send("ready")
    while True:
        try:
            requests = connection.recv()
        except EOFError:
            return
        for request in requests:
            _answer(connection, makers, playing, *request)


def _answer(
    connection: Connection,
    makers: Mapping[str, Callable[[], Game]],
    playing: dict[int, Game],
    verb: str,
    match: int,
    *rest: Any,
) -> None:
    try:
        connection.send(("done", _done(makers, playing, verb, match, rest)))
    except IllegalMove as reason:
        connection.send(("illegal", str(reason)))
    except Exception as error:
        playing.pop(match, None)
        connection.send(("fault", f"{type(error).__name__}: {error}"[:300]))


def _done(
    makers: Mapping[str, Callable[[], Game]], playing: dict[int, Game], verb: str, match: int, rest: Sequence[Any]
) -> Any:
    if verb == "close":
        playing.pop(match, None)
        return None
    if verb == "open":
        playing[match] = _opened(makers, *rest)
    elif verb == "play":
        playing[match].play(*rest)
    elif verb == "sample":
        return _sampled(playing[match], random.Random(*rest))
    return _shown(verb, playing[match], *rest)


def _sampled(game: Game, rng: random.Random) -> str | None:
    if legal := game.legal_moves():
        return rng.choice(legal)
    return game.sample_move(rng) if samples_moves(game) else None


def _shown(verb: str, game: Game, *rest: Any) -> Any:
    if verb == "copy":
        return game
    if verb == "skills":
        return skills_of(game)
    if verb == "messages":
        # As plain tuples: the server has not got the game's own classes.
        told = game.messages(*rest) if keeps_messages(game) else None
        return None if told is None else [(int(sender), str(text), str(kind)) for sender, text, kind in told]
    return _view(game)


def _opened(makers: Mapping[str, Callable[[], Game]], game: str, seed: int, moves: Sequence[str]) -> Game:
    made = makers[game]()
    made.reset(random.Random(seed))
    for move in moves:
        made.play(move)
    return made


def _view(game: Game) -> View:
    seat = game.current_player()
    legal = game.legal_moves() if seat is not None else []
    return View(
        seat,
        tuple(game.observe(player) for player in range(game.num_players)),
        None if legal is None else tuple(legal),
        game.rules,
        worst_return(game),
        tuple(map(float, game.returns())) if seat is None else None,
        has_perfect_information(game),
    )
