"""How the arena listens: uvicorn, with sockets that say why they end and that no stalled reader keeps open."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from spiral.api.text import printable_logger

MAX_FRAME = 1 << 17
"""Bytes of a message that are read at all: what is longer than `sockets.MAX_MESSAGE` but not than this is answered
with a sentence and the connection stays; what is longer closes it."""
GAME_PATH = "/ws"
"""Where TextArena's client plays, with its token among the words of the address."""
SILENT_S = 60
"""After which a machine that nothing comes from any more is asked by the kernel's own probes whether it is there."""
LINGER_S = 2.0
"""How long a connection that was closed may take to read what it was sent last."""

_logger = printable_logger(__name__)


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket of the arena."""

    def handle_connect(self, event: Request) -> None:
        """TextArena's client reads in a match only while it is called: one that thinks for a minute answers no ping,
        and would be taken for lost. In the queue it reads."""
        path, _, query = event.path.partition("?")
        if path == GAME_PATH and "token" in parse_qs(query):
            self.ping_interval = None
        super().handle_connect(event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Probes of the kernel are answered by the other one: they find a machine that is gone, and not one that
        thinks."""
        super().connection_made(transport)
        own: socket.socket | None = transport.get_extra_info("socket")
        if own is not None and own.family != socket.AF_UNIX:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_S)

    async def send(self, message: Any) -> None:
        """A handshake that is refused with an answer of its own is complete: uvicorn logs it as an error otherwise,
        once for each connection of a flood."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_parser_exception(self) -> None:
        """A message is too long, or breaks the protocol: the sender is told so in the closing frame, and it is
        logged here, since the application hears of a closed connection alone."""
        super().handle_parser_exception()
        closed = self.conn.close_sent
        if closed is not None:
            _logger.warning("the connection of %s was closed: %d %s", self.client, closed.code, closed.reason)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has done with it. `close` of asyncio's transports waits until all was read, for ever if
        need be."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)


def configured(app: ASGIApp, host: str, port: int, **options: Any) -> uvicorn.Config:
    """For `uvicorn.Server`; `options`: such as certificates."""
    return uvicorn.Config(
        app, host=host, port=port, log_level="warning", ws=SocketProtocol, ws_max_size=MAX_FRAME,
        ws_per_message_deflate=False,  # messages are short, and a compressor takes more memory than a match
        timeout_graceful_shutdown=5, **options,
    )  # fmt: skip
