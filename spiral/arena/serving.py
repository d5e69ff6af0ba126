"""Listens at the arena's ports: one for pages, programs and the queue, one with TLS for games of TextArena's client."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from spiral.api.errors import SpiralError
from spiral.arena.listening import configured

OPENSSL_S = 30.0


def page_server(app: ASGIApp) -> uvicorn.Server:
    """Of the arena's application, or of pages beside other work."""
    return uvicorn.Server(configured(app, "", 0))  # where it listens is said by the socket that it is served on


def game_server(app: ASGIApp, certificate: Path | None, key: Path | None) -> uvicorn.Server:
    """Of the game sockets, with a certificate that is made for it where none is given. Raises SpiralError."""
    with tempfile.TemporaryDirectory() as folder:
        if certificate is None or key is None:
            certificate, key = self_signed(Path(folder))
        options = {"lifespan": "off", "ssl_certfile": certificate, "ssl_keyfile": key}
        config = configured(app, "", 0, **options)
        try:
            config.load()
        except OSError as error:  # what is no certificate raises one of these too
            raise SpiralError(
                f"{certificate} and {key} are no certificate with its key ({error}); give both as PEM files"
            ) from error
    return uvicorn.Server(config)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A new certificate and its key, made by openssl: the standard library cannot make one, and TextArena's client
    checks none. Raises SpiralError where there is no openssl."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "3650", "-subj", "/CN=arena", "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=OPENSSL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise SpiralError(
            f"no certificate for TextArena's client could be made: openssl failed ({error}); install openssl, or give "
            "--tls-cert and --tls-key"
        ) from error
    return certificate, key


def listening(host: str, port: int, remedy: str = "choose another port") -> socket.socket:
    """A socket that listens; port 0 is any that is free. Raises SpiralError, with `remedy`, where the port cannot be
    had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SpiralError(f"{host}:{port} cannot be listened at ({error.strerror or error}); {remedy}") from error


def address(host: str, listener: socket.socket) -> str:
    """Host and port of a socket that listens."""
    return f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


async def serve(servers: Sequence[tuple[uvicorn.Server, socket.socket]]) -> None:
    """Serve in this event loop until one of them ends, which ends the others."""
    tasks = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in servers]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
