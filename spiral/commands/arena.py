"""`spiral arena`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spiral.api.errors import SpiralError
from spiral.arena.extra import arena_extra
from spiral.commands.output import echo

if TYPE_CHECKING:
    import socket

    import uvicorn

    from spiral.arena.limits import Limits
    from spiral.arena.lobby import Lobby

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="People and models play each other online, rated live.")
@click.option(
    "--games",
    "games",
    multiple=True,
    metavar="G",
    help="A game, NAME or NAME:key=value, or all that a pattern matches, such as 'textarena/*'; may be repeated.  "
    "[default: all installed ones of two or more players that are of no family]",
)
@click.option(
    "--house",
    multiple=True,
    metavar="POLICY",
    help="Who plays with those that wait alone; may be repeated.  [default: all installed bots]",
)
@click.option(
    "--skills",
    type=_FILE,
    metavar="FILE",
    help="YAML: the skills of games, for leaderboards by skill.  [default: what the games declare]",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A run, or a folder of runs, whose pages are shown too, as by spiral watch.",
)
@click.option("--db", default="sqlite:///arena.db", show_default=True, metavar="URL", help="SQLite or PostgreSQL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--clock", default=120.0, show_default=True, type=click.FloatRange(min=1), help="Seconds for one move.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1), help="That play the games.")
@click.option(
    "--per-address",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    help="Connections of one address at once.",
)
@click.option(
    "--tls-port",
    default=8443,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Where TextArena's own client plays, if there is a game that it knows.",
)
@click.option("--tls-cert", type=_FILE, help="The certificate of that port, as PEM.  [default: one made for it]")
@click.option("--tls-key", type=_FILE, help="The key of the certificate.")
@click.option("--tls-address", default="", metavar="HOST:PORT", help="What that client is told, behind a proxy.")
def arena(
    games: tuple[str, ...],
    house: tuple[str, ...],
    skills: Path | None,
    runs: Path | None,
    db: str,
    host: str,
    port: int,
    clock: float,
    processes: int,
    per_address: int,
    tls_port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_address: str,
) -> None:
    """People and models play each other online, rated live.

    A POLICY is a run (runs/a, runs/a@300), a bot (random, NAME:key=value) or a saved model (model:PATH).
    """
    with arena_extra("the arena"):
        from spiral.arena.limits import Limits
        from spiral.arena.opening import open_arena
        from spiral.arena.serving import address, serve
    if (tls_cert is None) != (tls_key is None):
        raise SpiralError("a certificate and its key belong together; give both --tls-cert and --tls-key, or neither")
    with (
        _stopped_in_order(),
        contextlib.closing(open_arena(games, house, db, clock, processes, _tell, skills)) as opened,
    ):
        servers = _servers(
            opened.lobby,
            Limits.by_connections(per_address),
            (host, port),
            (tls_port, tls_cert, tls_key, tls_address),
            runs,
        )
        echo(f"{len(opened.lobby.games)} games; house: {', '.join(opened.house) or 'none'}")
        echo(f"open http://{address(host, servers[0][1])}/")
        for _, listener in servers[1:]:
            echo(f"TextArena's client plays at {tls_address or address(host, listener)}")
        asyncio.run(serve(servers))


def _tell(text: str) -> None:
    echo(text, err=True)


class _Terminated(BaseException):
    """Of no kind that code catches, and no SystemExit, which asyncio does not leave in the task that raised it."""


@contextlib.contextmanager
def _stopped_in_order() -> Iterator[None]:
    """SIGTERM, with which an administrator or a service ends the arena, is an exit and no death: what was asked for is
    written, and the processes of the games end. uvicorn closes its connections first, and raises the signal again."""

    def terminated(number: int, _: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    except _Terminated:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _servers(
    lobby: Lobby,
    limits: Limits,
    pages: tuple[str, int],
    tls: tuple[int, Path | None, Path | None, str],
    runs: Path | None,
) -> list[tuple[uvicorn.Server, socket.socket]]:
    """What listens: the pages' server, and that of TextArena's client where there is a game that it knows."""
    from spiral.arena.server import application, game_sockets
    from spiral.arena.serving import game_server, listening, page_server
    from spiral.arena.textarena_client import environment
    from spiral.arena.textarena_sockets import game_address

    (host, port), (tls_port, certificate, key, fixed) = pages, tls
    if not any(environment(game) for game in lobby.games):
        return [(page_server(application(lobby, limits, runs=runs)), listening(host, port))]
    second = game_server(game_sockets(lobby, limits), certificate, key), listening(host, tls_port)
    address = game_address(second[1].getsockname()[1], fixed)
    return [(page_server(application(lobby, limits, address, runs)), listening(host, port)), second]
