"""HTTP POST with one deadline for the whole call and a bounded size of the answer."""

from __future__ import annotations

import functools
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

CONNECT_S = 10.0
"""Longest wait for each address of the server to accept a connection."""
MAX_BODY_BYTES = 512 * 1024
"""The largest answer that is read; a chat reply of 8,000 tokens has about 40 kB."""
MAX_COMPLAINT_BYTES = 8 * 1024
"""How much is read of an answer that is an error."""


class CallFailed(Exception):
    """One call gave nothing that can be used.

    `cause`: what it is counted by. `again`: whether the same call may succeed later, not before `wait_s` seconds.
    `charged`: whether the server may have generated a reply, and so may charge for it. `answered`: whether what came
    is an answer by the protocol, without a reply that could be used.
    """

    def __init__(
        self,
        cause: str,
        detail: str,
        again: bool = True,
        wait_s: float = 0.0,
        *,
        charged: bool = True,
        answered: bool = False,
    ) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause, self.detail, self.again, self.wait_s = cause, detail, again, wait_s
        self.charged, self.answered = charged, answered


class NotProtocol(CallFailed):
    """A whole answer of status 200 that is no chat completion: most likely the url is another server's."""


@dataclass(frozen=True)
class Response:
    """What the server sent."""

    status: int
    retry_after: str | None
    content_type: str | None
    location: str | None
    """The headers of these names."""
    body: bytes
    """Whole for status 200, else its first `MAX_COMPLAINT_BYTES`."""


def url_problem(url: str) -> str | None:
    """Why nothing can be posted to `url`, ready to follow "a url that"; None if it can be tried."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        known = parts.port is None or parts.port > 0
    except ValueError as error:
        return f"cannot be read ({error})"
    if parts.scheme not in ("http", "https") or not host or not known:
        return "is not of the form http://HOST:PORT/v1 or https://HOST/v1"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "holds more than an address; name the environment variable of a key in key_env"
    return None if url.isascii() and url.isprintable() and " " not in url else "holds a character that no address has"


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Response:
    """Send `body` and read the answer, all within `timeout_s` seconds; redirections are answers like any other.

    Raises CallFailed, whatever the server does.
    """
    deadline = time.monotonic() + timeout_s
    parts = urlsplit(url)
    connection = _connection(parts, min(CONNECT_S, timeout_s))
    sock: socket.socket | None = None
    try:
        connection.connect()
        sock = connection.sock
        timed: Any = _Timed(sock, deadline)
        connection.sock = timed
        connection.request("POST", parts.path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        after, kind, place = map(response.getheader, ("Retry-After", "Content-Type", "Location"))
        return Response(response.status, after, kind, place, _body(response))
    # TimeoutError is an OSError, so its arm comes first. Charged once connected: from then on the server may generate.
    except TimeoutError as error:
        raise CallFailed("timeout", f"no whole answer within {timeout_s:g} s", charged=sock is not None) from error
    except (OSError, HTTPException) as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CallFailed("connection", detail, charged=sock is not None) from error
    finally:
        if sock is not None:
            sock.close()


def _connection(parts: SplitResult, timeout_s: float) -> HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return HTTPSConnection(host, parts.port, timeout=timeout_s, context=_trust())
    return HTTPConnection(host, parts.port, timeout=timeout_s)


@functools.cache
def _trust() -> ssl.SSLContext:
    """The system's certificates; reading them takes longer than a call."""
    return ssl.create_default_context()


def _body(response: HTTPResponse) -> bytes:
    if response.status != 200:
        return response.read(MAX_COMPLAINT_BYTES)
    body = response.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        # No model writes so much, and a page may.
        kind = CallFailed if body.lstrip()[:1] == b"{" else NotProtocol
        raise kind("too large", f"the answer has more than {MAX_BODY_BYTES:,} bytes", again=False)
    if response.length:  # http.client says nothing when a body with a known length ends early
        raise CallFailed("connection", f"the answer broke off, {response.length:,} bytes before its end")
    return body


class _Timed:
    """A socket whose every wait ends at one deadline: a time-out of its own would start anew with each byte."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline

    def armed(self) -> socket.socket:
        """The socket, with what is left of the time as its time-out."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.armed().send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """Nothing: http.client closes before it reads, and `post` closes the socket itself."""


class _Incoming(io.RawIOBase):
    """The reading side of a `_Timed` socket, for http.client's buffered reader."""

    def __init__(self, timed: _Timed) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.armed().recv_into(buffer)
