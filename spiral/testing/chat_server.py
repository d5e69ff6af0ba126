"""A local server of OpenAI's chat completions protocol that sends scripted answers and failures, for tests."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

from spiral.api.errors import SpiralError

PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class ChatAnswer:
    """One answer: a reply with `text`, or `body` instead of it; and how it fails, if it does.

    Example: `ChatAnswer(status=429, headers={"Retry-After": "1"}, body=b"")`
    """

    text: str | None = ""
    """The content of the one choice; None is JSON's null."""
    finish: str = "stop"
    usage: tuple[int, int] | None = (10, 5)
    """Tokens of prompt and reply; None leaves them out."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent instead of a reply in JSON, with no type but that of `headers`: such as the page of another server."""
    pause_s: float = 0.0
    """Between any two bytes of the body."""
    fault: Literal["", "hang", "reset", "cut"] = ""
    """`hang`: send nothing until the server closes; `reset`: break the connection; `cut`: send half of the body."""

    def encoded(self) -> bytes:
        """The body."""
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        reply: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": self.finish}]}
        if self.usage is not None:
            reply["usage"] = {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1]}
        return json.dumps({"id": "chat", "object": "chat.completion", **reply}).encode()


Answers = Iterable["ChatAnswer | str"] | Callable[[dict[str, Any]], "ChatAnswer | str"]
"""The answers in the order of the requests, or request -> answer; a text stands for `ChatAnswer(text)`."""


class ChatServer:
    """An OpenAI-compatible chat endpoint at `url`, which runs inside a `with` statement.

    `requests` holds the JSON of every request and `authorizations` its Authorization header or None, in the order of
    arrival; `peak` is the largest number of requests that waited for an answer at once. `answers` is called in a
    thread for each request, and so may wait for others. Once a list of answers is used up, status 500 is sent.

    Example: `with ChatServer(["[bet]", ChatAnswer(fault="hang")]) as server: ...`
    """

    def __init__(self, answers: Answers) -> None:
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.peak = 0
        self._answer = answers if callable(answers) else _in_order(answers)
        self._lock = threading.Lock()
        self._waiting = 0
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The base URL for a client, without /chat/completions. Raises SpiralError outside of `with`."""
        if self._server is None:
            raise SpiralError("the chat server is not running; use it in a `with` statement")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append(request)
            self.authorizations.append(handler.headers["Authorization"])
            self._waiting += 1
            self.peak = max(self.peak, self._waiting)
        try:
            if handler.path == PATH:
                answer = self._answer(request)
            else:
                answer = ChatAnswer(status=404, body=b'{"error": {"message": "no such path"}}')
        finally:  # also when a callable of the test raises: `peak` must not count that request for ever
            with self._lock:
                self._waiting -= 1
        self._send(handler, ChatAnswer(answer) if isinstance(answer, str) else answer)

    def _send(self, handler: BaseHTTPRequestHandler, answer: ChatAnswer) -> None:
        if answer.fault == "hang":
            self._closing.wait()
            return
        if answer.fault == "reset":
            # Closing with time 0 to linger sends a reset instead of an end.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            return
        body = answer.encoded()
        handler.send_response(answer.status)
        kind = {} if answer.body is not None else {"Content-Type": "application/json"}
        for name, value in {"Content-Length": str(len(body)), **kind, **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        body = body[: len(body) // 2] if answer.fault == "cut" else body
        if not answer.pause_s:
            handler.wfile.write(body)
            return
        for place in range(len(body)):
            handler.wfile.write(body[place : place + 1])
            if self._closing.wait(answer.pause_s):
                return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client that gives up is an expected part of a test."""


def _in_order(answers: Iterable[ChatAnswer | str]) -> Callable[[dict[str, Any]], ChatAnswer | str]:
    remaining, lock = iter(answers), threading.Lock()

    def answer(request: dict[str, Any]) -> ChatAnswer | str:
        with lock:
            return next(remaining, ChatAnswer(status=500, body=b"no answer is left"))

    return answer
