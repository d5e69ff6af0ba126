"""What stands before every page and socket: headers, the origin of a socket, and limits by address."""

from __future__ import annotations

import math
import re
from collections import Counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spiral.arena.limits import Counters, Limits, address

HEADERS = {
    # Nothing is read from another host, no page is framed, and no text of a player can become a script.
    "content-security-policy": (
        "default-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

REPLAY, EXPORT = re.compile(r"/matches/\d+"), "/api/export"
"""The paths whose answers play matches again, while those that are in play wait for the process of their game."""


class Guard:
    """Headers on every answer, no socket for a page of another site, which a browser would open for any of them, and
    no more for one address than the limits say."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._requests, self._registrations = Counters(limits.requests), Counters(limits.registrations)
        self._openings = Counters(limits.openings)
        self._replays, self._exports = Counters(limits.replays), Counters(limits.exports)
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A page that brings its own, such as a run's report with its script inside, is held to that alone.
                own = {name.lower() for name, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        caller = address(scope.get("client"))
        counters = self._requests if scope["method"] in ("GET", "HEAD") else self._registrations
        if wait_s := counters.too_early_s(caller):
            await _refuse(answered, "http.response", "there are too many requests from your address", wait_s)
            return
        if (again := self._plays_again(scope["path"])) is not None and (wait_s := again.too_early_s(caller)):
            await _refuse(answered, "http.response", "your address asks for too many matches again", wait_s)
            return
        await self._app(scope, receive, answered)

    def _plays_again(self, path: str) -> Counters | None:
        if path == EXPORT:
            return self._exports
        return self._replays if REPLAY.fullmatch(path) else None

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _same_site(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 4403})
            return
        caller = address(scope.get("client"))
        if self._open[caller] >= self._limits.connections:
            reason = f"your address has {self._limits.connections} connections already; close one"
            await _refuse(send, "websocket.http.response", reason, 1.0)
            return
        if wait_s := self._openings.too_early_s(caller):
            await _refuse(send, "websocket.http.response", "your address opens connections too often", wait_s)
            return
        self._open[caller] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


def _same_site(headers: Headers) -> bool:
    """Whether a socket comes from one of the arena's pages, or from a program, which names no origin."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


async def _refuse(send: Send, kind: str, reason: str, wait_s: float) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", str(math.ceil(wait_s)).encode())]
    await send({"type": f"{kind}.start", "status": 429, "headers": headers})
    await send({"type": f"{kind}.body", "body": f"{reason}; wait {math.ceil(wait_s)} s\n".encode()})
